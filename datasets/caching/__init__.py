"""Decoded and drawn pictures on the disk: whole or absent."""
