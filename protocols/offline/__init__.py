"""What the protocols with a target set share."""
