"""What a run is set up from: its parts, and the process that it runs in."""
