"""What becomes of a run: records, statistics, leaderboard."""
