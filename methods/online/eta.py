"""ETA: EATA without its penalty against forgetting."""

from __future__ import annotations

from typing import ClassVar

from dabench.methods.online.eata import EATA


class ETA(EATA):
    """ETA (Niu et al., ICML 2022): entropy minimisation on reliable, novel samples.

    ``eata`` without the Fisher penalty, hence without the clear images that the Fisher matrix is
    estimated on: nothing is needed beyond the source model.
    """

    extras: ClassVar[frozenset[str]] = frozenset()
    fixed_options: ClassVar[frozenset[str]] = frozenset({"fisher_weight"})
    fisher_weight = 0.0
