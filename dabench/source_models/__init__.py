"""Source models and parts trained on source data: trained once, cached."""
