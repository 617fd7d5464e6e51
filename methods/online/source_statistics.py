"""What methods share that are granted means and variances of the source's features."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dabench.api import AccessError, Online

STATISTICS = "source-statistics"


def source_statistics(access: Online, method: str) -> Mapping[str, Tensor]:
    """Return statistics of clear source features by name.

    ``mean`` and ``var`` (D,), ``class_mean`` and ``class_var`` (K, D), ``count`` (K,): images of
    each class.

    Args:
        access: the grant.
        method: its name, for the message.

    Raises:
        AccessError: the protocol does not grant them.
    """
    if STATISTICS not in access.extras:
        raise AccessError(
            f"{method} needs the extra '{STATISTICS}' (means and variances of the source's "
            "features), which is not granted here; use rotta, or a protocol that grants it"
        )
    found: Mapping[str, Tensor] = access.extras[STATISTICS]
    return found
