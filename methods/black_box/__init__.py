"""Methods that see unlabelled target images and answers of the source model."""
