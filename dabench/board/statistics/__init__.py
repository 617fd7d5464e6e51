"""Means, intervals, verdicts, ranks and bootstraps over records."""
