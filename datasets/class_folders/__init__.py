"""Sets in folders of one class each, in their public layouts."""
