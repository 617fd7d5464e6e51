"""What SHOT and AaD share: the source model, and a cut on its entropy in open sets."""

from __future__ import annotations

from dabench.api import SourceFree
from dabench.methods.entropy_cut import EntropyCut


class EntropySplit(EntropyCut):
    """A copy of the source model that learns."""

    def begin(self, access: SourceFree) -> None:
        """Take the source model; nothing is unknown yet."""
        super().begin(access)
        self.net = access.source_model
