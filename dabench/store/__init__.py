"""Records of runs on the disk: written whole, read with checks, as frames (no torch)."""
