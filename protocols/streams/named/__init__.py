"""Streams by name: in what order images arrive, and under which shift each of them is shown."""
