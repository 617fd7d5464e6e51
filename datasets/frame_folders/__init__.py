"""Segmentation sets: frames and masks in their public layouts."""
