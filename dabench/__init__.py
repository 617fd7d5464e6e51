"""dabench: a benchmark suite for domain adaptation without the source data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dabench.deploy.live import online
    from dabench.deploy.offline import adapt
    from dabench.door import run
    from dabench.source_models.model_files import load_model
    from dabench.store.frames import load_curves, load_results

__version__ = "0.2.0"
__all__ = ["__version__", "adapt", "load_curves", "load_model", "load_results", "online", "run"]
_PLACES = {
    "adapt": "dabench.deploy.offline",
    "load_model": "dabench.source_models.model_files",
    "load_curves": "dabench.store.frames",
    "load_results": "dabench.store.frames",
    "online": "dabench.deploy.live",
    "run": "dabench.door",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch or pandas when it is asked for: the command line starts without."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'dabench' has no attribute '{name}'")
