"""Seeds that are hashed from names, never drawn in order.

Adding a method, a stage or a data set therefore changes nobody else's random numbers. Torch is
imported where it is seeded: a process that draws weather needs a seed, and no torch.
"""

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator

import numpy as np


def seed(base: int, *names: str) -> int:
    """Return a seed in [0, 2^31) for ``base`` and a path of names."""
    text = "/".join((str(base), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def seed_everything(value: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import torch

    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - scikit-learn and libraries draw from the global one
    torch.manual_seed(value)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put every global generator back afterwards: whoever draws inside moves nothing outside."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - as above
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def seeded(value: int) -> Iterator[None]:
    """Seed inside, and put every generator back afterwards: nothing outside depends on it."""
    with generators_kept():
        seed_everything(value)
        yield


@contextlib.contextmanager
def torch_as_it_was() -> Iterator[None]:
    """Undo what Lightning's ``deterministic`` leaves on: it is for this run, not for later ones."""
    import torch

    name = "CUBLAS_WORKSPACE_CONFIG"
    before = os.environ.get(name)
    chosen = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(chosen, warn_only=warns)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
