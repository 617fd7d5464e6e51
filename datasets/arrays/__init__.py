"""Images that lie in arrays: published files, and a user's own."""
