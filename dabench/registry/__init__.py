"""Names of methods, protocols and data sets -> where their classes live.

Only strings stand here, so that ``dabench list`` imports neither torch nor a method. To add a
method, a protocol or a data set: write its file and add one entry to the table of that name.
"""

from dabench.registry.datasets import DATASETS
from dabench.registry.entries import DataEntry, Entry, MethodEntry, ProtocolEntry
from dabench.registry.lookup import (
    called,
    check_data_kind,
    check_method_kind,
    check_serves,
    data_loader,
    dataset,
    entry,
    kind_of,
    method,
    primary_metric,
    protocol,
)
from dabench.registry.methods import METHODS
from dabench.registry.plugins import Plugin, located, name_of, plugins_of, restore, version_of
from dabench.registry.protocols import DENSE, ONLINE, PROTOCOLS, STREAMS

__all__ = [
    "DATASETS",
    "DENSE",
    "METHODS",
    "ONLINE",
    "PROTOCOLS",
    "STREAMS",
    "DataEntry",
    "Entry",
    "MethodEntry",
    "Plugin",
    "ProtocolEntry",
    "called",
    "check_data_kind",
    "check_method_kind",
    "check_serves",
    "data_loader",
    "dataset",
    "entry",
    "kind_of",
    "located",
    "method",
    "name_of",
    "plugins_of",
    "primary_metric",
    "protocol",
    "restore",
    "version_of",
]
