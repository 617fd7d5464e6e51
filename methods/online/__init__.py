"""Methods that are pushed one batch at a time, of images or of frames."""
