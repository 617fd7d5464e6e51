"""What a grant hands out in place of the protocol's own objects: the same answers, and no more."""

from __future__ import annotations

from torch import Tensor

from dabench.contract.access import Oracle, Recorder, Unlabelled
from dabench.contract.confined import Confined
from dabench.contract.types import Separation


class GrantedRecorder(Recorder):
    """Writes to a recorder of the run, whose files it does not show.

    Args:
        inner: what records; :meth:`start` does not reach it.
    """

    def __init__(self, inner: Recorder) -> None:
        self._put = Confined(inner.put)

    def put(self, name: str, step: int, value: float | Separation | Tensor) -> None:
        """Record a value."""
        self._put(name, step, value)


class GrantedOracle(Oracle):
    """Asks the client of a source model; transport, budget and stored answers are out of reach.

    Args:
        client: what answers and counts.
    """

    def __init__(self, client: Oracle) -> None:
        self._gives_probabilities = client.gives_probabilities
        self._ask, self._ask_all = Confined(client.ask), Confined(client.ask_all)

    @property
    def gives_probabilities(self) -> bool:
        """False where answers are one-hot."""
        return self._gives_probabilities

    def ask(self, images: Tensor) -> Tensor:
        """Answer (B, 3, H, W) images by (B, K) float32 distributions on the CPU.

        Raises:
            AccessError: the budget of questions is spent.
            OracleError: no answer, or one that is no distribution over the task's classes.
        """
        return self._ask(images)

    def ask_all(self, target: Unlabelled) -> Tensor:
        """Answer a whole set in position order by (N, K).

        Raises:
            AccessError, OracleError: as ``ask``.
        """
        return self._ask_all(target)
