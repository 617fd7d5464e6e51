"""Image and mask files -> arrays."""
