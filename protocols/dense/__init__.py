"""What protocols of online segmentation add to streams."""
