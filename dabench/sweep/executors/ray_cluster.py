"""The Ray cluster itself: to reach it, which nodes it has, whether they are of one version."""

from __future__ import annotations

import logging
import platform
import re
import signal
import socket
import threading
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import dabench
from dabench.errors import ConfigError, one_line
from dabench.sweep.resources import Resources

#: seconds for a cluster to answer, and for its nodes to
_CONNECT, _PROBE = 5.0, 60.0


def connect(address: str) -> None:
    """Connect to a cluster.

    Raises:
        ConfigError: there is none, or it is of another Ray or Python.
    """
    if address != "auto":
        found = re.fullmatch(r"([\w.-]+):(\d{1,5})", address)
        if found is None:
            raise ConfigError(f"--address {one_line(address, 60)}: expected auto or HOST:PORT")
        try:
            socket.create_connection((found[1], int(found[2])), _CONNECT).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--address {address}: no Ray cluster answers there ({error}); 'ray start --head' "
                "starts one"
            ) from error
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"--executor ray, --address {address}: {one_line(error, 400)}; 'ray start --head' "
            "starts a cluster here"
        ) from error
    finally:
        if main:  # Ray takes the signal for itself
            signal.signal(signal.SIGTERM, before)


def nodes() -> list[dict[str, Any]]:
    """Return the nodes on which runs may be."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in found if node["Alive"] and node["Resources"].get("CPU")]


def room_for(run: Resources) -> int:
    """Return how many runs of one kind the nodes of the moment hold."""
    asked = {"CPU": run.cpus, "GPU": run.gpus, "memory": run.memory}
    needs = [(name, value) for name, value in asked.items() if value]
    found = [node["Resources"] for node in nodes()]
    return sum(int(min(has.get(name, 0.0) // value for name, value in needs)) for has in found)


def check_versions() -> None:
    """Compare dabench and Python of every node with the driver's.

    Raises:
        ConfigError: names each node that differs.
    """

    def probe() -> tuple[str, str]:  # a function of a function travels whole, to nodes without us
        import platform as there

        try:
            import dabench as package
        except ImportError:
            return there.python_version(), "none"
        return there.python_version(), package.__version__

    here = (platform.python_version(), dabench.__version__)
    wrong = []
    asked = []
    for node in nodes():
        one = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(probe).options(num_cpus=0, scheduling_strategy=one)
        asked.append((f"{node['NodeManagerHostname']} ({node['NodeName']})", task.remote()))
    for name, ref in asked:
        try:
            found = ray.get(ref, timeout=_PROBE)
        except (NodeDiedError, TaskUnschedulableError):
            continue  # lost since it was listed: no run will be there
        except RayError:  # the time is over, its workers do not start ...
            wrong.append(f"{name} does not answer")
            continue
        if found[0].rpartition(".")[0] != here[0].rpartition(".")[0] or found[1] != here[1]:
            wrong.append(f"{name} has dabench {found[1]} and Python {found[0]}")
    if wrong:
        raise ConfigError(
            f"--executor ray: node {'; '.join(wrong)}; here are dabench {here[1]} and Python "
            f"{here[0]}; install the same there"
        )
