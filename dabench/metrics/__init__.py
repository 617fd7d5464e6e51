"""What is measured: classification, open sets, segmentation, label-free scores; the scorer."""
