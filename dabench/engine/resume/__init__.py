"""What an interrupted stream goes on from."""
