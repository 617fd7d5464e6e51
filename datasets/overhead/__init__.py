"""Drawn land-use scenes from above (embedded)."""
