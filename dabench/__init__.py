"""dabench: a benchmark suite for domain adaptation without the source data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dabench.store.frames import load_curves, load_results

__version__ = "0.1.0"
__all__ = ["__version__", "load_curves", "load_results"]


def __getattr__(name: str) -> Any:
    """Import what needs pandas when it is asked for: the command line starts without it."""
    if name in ("load_curves", "load_results"):
        from dabench.store import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'dabench' has no attribute '{name}'")
