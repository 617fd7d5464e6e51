"""Drawn driving scenes with a class for every pixel (embedded)."""
