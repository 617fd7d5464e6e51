"""dabench: a benchmark suite for domain adaptation without the source data."""

__version__ = "0.1.0"
