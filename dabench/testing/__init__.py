"""The contract kit: what every method owes, as checks that a plug-in's own tests can call.

``check_method(MyMethod, protocols, workbench)`` returns a verdict for each promise; ``dabench check
file.py:MyMethod`` prints them. dabench's own methods are tested by the same functions.
"""

from dabench.testing.benches import Bench, Workbench
from dabench.testing.case import BrokenPromise, Case
from dabench.testing.kit import Verdict, check_method
from dabench.testing.promises import PROMISES

__all__ = [
    "PROMISES",
    "Bench",
    "BrokenPromise",
    "Case",
    "Verdict",
    "Workbench",
    "check_method",
]
