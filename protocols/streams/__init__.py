"""What the protocols that push a stream of images share."""
