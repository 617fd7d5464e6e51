"""UniTTA's streams: a Markov chain over (domain, class), with quotas where needed (no torch).

Source: ``core/data/unittasampler.py`` and ``sh/run.sh`` of LeapLabTHU/UniTTA (Du et al., 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dabench.contract.types import FloatArray, IntArray

#: stays with this probability where it is correlated; a domain, a class
CORRELATION = {"domain": 0.85, "class": 0.95}
#: how many times as frequent the first is as the last, where they are imbalanced
IMBALANCE = {"domain": 5.0, "class": 10.0}
#: the letters of a name: class correlation and balance, domain correlation and balance
LETTERS = ("in", "1u", "in1", "1u")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Factor:
    """One side of the chain: domains, or classes.

    Attributes:
        states: how many there are.
        correlation: probability with which the most correlated state stays.
        imbalance: how many times as frequent the first state is as the last.
    """

    states: int
    correlation: float
    imbalance: float

    @property
    def consistent(self) -> bool:
        """Whether a chain can have both, so that no quota is needed."""
        stays = 1 - self.correlation
        least = 1 - 1 / self.states
        return self.correlation < 1 and stays * self.imbalance <= least + _ROUNDING

    @property
    def shares(self) -> FloatArray:
        """Frequencies from the first state to the last, over that of the first."""
        steps = np.arange(self.states) / max(1, self.states - 1)
        found: FloatArray = self.imbalance**-steps
        return found

    @property
    def transitions(self) -> FloatArray:
        """(n, n) probabilities: c_i on the diagonal, the rest of a row even.

        Where the factor is consistent 1 - c_i is (1 - c) F F^(-(n-1-i)/(n-1)), so that c_0 = c and
        the stationary share falls by F from the first state to the last; else c_i = c.
        """
        n = self.states
        if n == 1:
            return np.ones((1, 1))
        leaves = np.full(n, 1 - self.correlation)
        if self.consistent:
            leaves = (1 - self.correlation) * self.imbalance * self.shares[::-1]
        found = np.repeat((leaves / (n - 1))[:, None], n, axis=1)
        np.fill_diagonal(found, 1 - leaves)
        return found


def factors(setting: str, domains: int, classes: int) -> tuple[Factor, Factor]:
    """Return the sides of one of the 24 streams: domains, classes.

    Args:
        setting: four letters, as ``nui1``: classes i.i.d. or non-i.i.d. (i, n), balanced or not
            (1, u); domains i.i.d., non-i.i.d. or one after the other (i, n, 1), balanced or not.
        domains: how many.
        classes: how many.
    """
    class_moves, class_shares, domain_moves, domain_shares = [*setting]
    stay = {"i": 1 / domains, "n": CORRELATION["domain"], "1": 1.0}[domain_moves]
    keep = {"i": 1 / classes, "n": CORRELATION["class"]}[class_moves]
    return (
        Factor(domains, stay, IMBALANCE["domain"] if domain_shares == "u" else 1.0),
        Factor(classes, keep, IMBALANCE["class"] if class_shares == "u" else 1.0),
    )


def chain(
    domain: Factor, label: Factor, samples: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return the (T,) domains and the (T,) classes that a chain visits.

    It begins in the first domain and the first class. Two consistent factors: it ends when one
    state was visited ``samples`` times. Else what is inconsistent has quotas (a state's: samples
    times its shares; a domain's or class's: the sum over its states); a state whose quota is full
    is struck out, and the chain ends when all are. From a state it moves among those that are not
    struck out, in the proportions of its row; where the row leaves none of them, to any, evenly.
    (The authors' code draws moves in advance and rejects; it comes to the same.)

    Args:
        domain: the side of the domains.
        label: the side of the classes.
        samples: most visits of the most frequent state.
        rng: draws the moves.
    """
    k = label.states
    moves, turns = domain.transitions, label.transitions
    quota = np.round(samples * np.outer(domain.shares, label.shares))
    visits = np.zeros(quota.shape, dtype=np.int64)
    open_states = np.ones(quota.size, dtype=bool)
    both = domain.consistent and label.consistent
    place, found = (0, 0), []
    while True:
        found.append(place)
        visits[place] += 1
        if both and visits[place] >= samples:
            break
        if not both:
            full = _struck_out(place, visits, quota, domain.consistent, label.consistent)
            open_states[full] = False
            if not open_states.any():
                break
        chances = np.outer(moves[place[0]], turns[place[1]]).ravel() * open_states
        ends = np.cumsum(chances if chances.any() else open_states)
        state = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        place = divmod(state, k)
    path = np.array(found, dtype=np.int64)
    return path[:, 0], path[:, 1]


def _struck_out(
    place: tuple[int, int], visits: IntArray, quota: FloatArray, domains: bool, classes: bool
) -> IntArray:
    """Return the states whose quota is full now (domains, classes: whether consistent)."""
    k = quota.shape[1]
    states = np.arange(quota.size)
    d, c = place
    if not domains and not classes:
        return states[[d * k + c]] if visits[d, c] >= quota[d, c] else states[:0]
    if not domains:
        return states[states // k == d] if visits[d].sum() >= quota[d].sum() else states[:0]
    return states[states % k == c] if visits[:, c].sum() >= quota[:, c].sum() else states[:0]
