"""Whether a method fits what a protocol hands out."""

from __future__ import annotations

from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.errors import AccessError


def check_grant(
    method: OfflineMethod | OnlineMethod, grant: type, extras: frozenset[str] = frozenset()
) -> None:
    """Compare what a method needs with what a protocol gives (``extras``: by name).

    Raises:
        AccessError: another grant, or extras that the protocol does not know.
    """
    name = type(method).__name__
    if not issubclass(grant, method.grant):
        wanted = method.grant if isinstance(method.grant, tuple) else (method.grant,)
        raise AccessError(
            f"{name} needs {' or '.join(w.__name__ for w in wanted)}, "
            f"this protocol grants {grant.__name__}; "
            "see 'dabench list' for the protocols that each method serves"
        )
    if not method.extras <= extras:
        wish = sorted(method.extras - extras)
        raise AccessError(f"{name} asks for {wish}, which is not granted here")
