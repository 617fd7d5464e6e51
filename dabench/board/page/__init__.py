"""HTML pages that need no network: the leaderboard, and the report of one run (no torch)."""
