"""What methods share that are granted means and variances of the source's features."""

from __future__ import annotations

from dabench.api import AccessError, Online, SourceStatistics

STATISTICS = "source-statistics"


def source_statistics(access: Online, method: str) -> SourceStatistics:
    """Return the statistics of clear source features that a protocol grants.

    Args:
        access: the grant.
        method: its name, for the message.

    Raises:
        AccessError: they are not granted.
    """
    if STATISTICS not in access.extras:
        raise AccessError(
            f"{method} needs the extra '{STATISTICS}' (means and variances of the source's "
            "features), which is not granted here; use rotta, or a protocol that grants it"
        )
    found: SourceStatistics = access.extras[STATISTICS]
    return found
