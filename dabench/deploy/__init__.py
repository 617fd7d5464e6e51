"""Adaptation without labels, protocols and scores: your model, your images."""
