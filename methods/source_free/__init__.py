"""Methods that see unlabelled target images and a copy of the source model."""
