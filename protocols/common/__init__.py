"""What offline protocols and streams share."""
