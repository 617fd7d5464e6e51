"""Images that lie in arrays."""
