"""Whether a sweep's table depends on who makes the runs, and on what disturbs them.

    OMP_NUM_THREADS=1 python benchmarks/executor_tables.py [--runs 200] [--times 5]
        [--how driver,ctrl-c,node] [--only local,ray,slurm]
        [--grid grids/quick.yaml] [--protocols online-tta]

First the same thinned grid by two processes here, by Ray on two nodes of one CPU, and by two tasks
of submitit's local engine (no Slurm is needed): records are equal but for what they cost, and the
overhead of a run over a process here is printed. Then the sweep once more, and disturbed so many
times, evenly over its runs: the driver is killed and started again (``driver``), interrupted by
Ctrl-C and started again (``ctrl-c``), or a node is lost and another one comes (``node``, Ray).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dabench.store.store import Store

ROOT = Path(__file__).parents[1]
KINDS = ("local", "ray", "slurm")
DISTURBED = {
    "local": ("driver", "ctrl-c"),
    "ray": ("driver", "ctrl-c", "node"),
    "slurm": ("driver", "ctrl-c"),
}
#: of a record, what differs between two runs of one spec, and what follows from it
_COSTS = ("cost", "source_model", "checksum", "environment", "predictions")
#: stands for ``dabench`` with array jobs on this machine: a command line needs sbatch for them
_SLURM = """
import sys
from pathlib import Path
import dabench.cli.sweep as sweep
from dabench.cli.main import main
from dabench.sweep.executors import slurm
from dabench.sweep.executors.chunk import Request

def lives(task):
    try:
        state = Path(f"/proc/{task.job_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

def make(settings, workers):
    return slurm.SlurmExecutor(settings, Request(CHUNK), cluster="local", alive=lives)

slurm._LAG = 2.0  # no folder is shared here
sweep.make_executor = make
sys.exit(main(sys.argv[1:]))
"""


class Sweeps:
    """Sweeps over one grid with one executor.

    Args:
        kind: of the executor.
        words: of the command line, the grid first.
        runs: how many there are.
        cluster: of Ray; None where there is none.
    """

    def __init__(self, kind: str, words: list[str], runs: int, cluster: Any) -> None:
        self.kind, self.words, self.runs, self.cluster = kind, words, runs, cluster

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start a sweep with results and cache of its own, in a folder; or go on there."""
        folder.mkdir(exist_ok=True)
        more = {
            "local": ["--workers", "2"],
            "slurm": [],
            "ray": ["--executor", "ray", "--address", getattr(self.cluster, "address", "")],
        }
        program = ["-m", "dabench"]
        if self.kind == "slurm":  # two tasks, as far as source models allow
            program = ["-c", _SLURM.replace("CHUNK", str(-(-self.runs // 2)))]
        places = ["--results", "results", "--cache-dir", "cache", "--no-progress"]
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *program, "sweep", *self.words, *more[self.kind], *places],
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def calm(self, folder: Path) -> float:
        """Return the seconds of a sweep that nobody disturbs."""
        begin = time.perf_counter()
        process = self.start(folder)
        check(process.wait() == 0, f"the sweep failed; see {folder / 'log'}")
        return time.perf_counter() - begin

    def disturbed(self, folder: Path, how: str, times: int) -> None:
        """Make a sweep that is disturbed so many times, the first time before it has a record."""
        process = self.start(folder)
        for number in range(times):
            wanted = number * self.runs // times
            while len(found(folder)) < wanted:
                check(process.poll() is None, f"the sweep ended early; see {folder / 'log'}")
                time.sleep(0.05)
            if number == 0:
                time.sleep(2)
            if how == "node":
                nodes = [node for node in self.cluster.list_all_nodes() if not node.head]
                self.cluster.remove_node(nodes[number % 2], allow_graceful=False)
                add_node(self.cluster)
                continue
            process.send_signal(signal.SIGKILL if how == "driver" else signal.SIGINT)
            code = process.wait()
            # Python ends by the signal itself, which is 130 to a shell, where it came in the middle
            # of an import that executes text, although the command line caught it
            ends = (-signal.SIGKILL,) if how == "driver" else (130, -signal.SIGINT)
            said = (folder / "log").read_text()[-3000:]  # the folder goes with this process
            check(code in ends, f"{said}\n{how}, {number + 1}: exit code {code}")
            process = self.start(folder)
        check(process.wait() == 0, f"the sweep failed; see {folder / 'log'}")


def check(holds: bool, text: str) -> None:
    """End with a message where something does not hold."""
    if not holds:
        sys.exit(text)


def found(folder: Path) -> dict[str, Any]:
    """Return the finished runs by id, without what they cost."""
    records = [record for _, record in Store(folder / "results").all()]
    return {r["run_id"]: {k: v for k, v in r.items() if k not in _COSTS} for r in records}


def add_node(cluster: Any) -> None:
    cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20)


@contextmanager
def ray_cluster(wanted: bool) -> Iterator[Any]:
    """Yield a cluster of two nodes with a CPU each, and a head without one."""
    if not wanted:
        yield None
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        add_node(cluster)
        add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def compare(one: dict[str, Any], two: dict[str, Any], what: str) -> None:
    """Say whether two sweeps have the same records."""
    differ = [run for run in one.keys() | two.keys() if one.get(run) != two.get(run)]
    same = f"{len(differ)} DIFFER" if differ else "the same"
    print(f"{what}: {len(two)} runs, {same}", flush=True)
    check(not differ, f"the first that differs: {differ[:1]}")


def thinned(grid: Path, runs: int, protocols: str | None) -> tuple[list[str], int]:
    """Return the words of a sweep over about so many runs of a grid, and how many they are."""
    from dabench.sweep.grid import choose, expand, read, shard

    whole = expand(read(grid), grid.name, {"threads": 1}, {})
    if protocols:
        whole = choose(whole, {"protocol": protocols.split(",")})
    parts = max(1, len(whole.specs) // runs)
    words = [str(grid.absolute()), "--shard", f"1/{parts}", "--threads", "1", "--device", "cpu"]
    words += ["--protocols", protocols] if protocols else []
    return words, len(shard(whole, f"1/{parts}").specs)


def main() -> None:
    """Print what is the same, and what an executor costs a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="of the grid, about")
    parser.add_argument("--times", type=int, default=5, help="of each disturbance; 0 = none")
    parser.add_argument("--how", default="driver,ctrl-c,node", help="disturbances")
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--grid", type=Path, default=ROOT / "grids" / "quick.yaml")
    parser.add_argument("--protocols", help="of the grid, with commas between")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    # a shell starts what it puts behind '&' deaf to Ctrl-C, and sweeps would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words, runs = thinned(asked.grid, asked.runs, asked.protocols)
    kinds, wanted = asked.only.split(","), asked.how.split(",")
    calm: dict[str, Any] | None = None
    usual: float | None = None
    print(f"{runs} runs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as name, ray_cluster("ray" in kinds) as cluster:
        for kind in kinds:
            sweeps, folder = Sweeps(kind, words, runs, cluster), Path(name) / kind
            seconds = sweeps.calm(folder)
            calm = calm or found(folder)
            usual = usual or seconds
            more = f", {(seconds - usual) / runs:+.2f} s a run" if seconds != usual else ""
            compare(calm, found(folder), f"{kind}, {seconds:.0f} s{more}")
            for how in [h for h in DISTURBED[kind] if asked.times and h in wanted]:
                place = Path(name) / f"{kind}-{how}"
                sweeps.disturbed(place, how, asked.times)
                compare(calm, found(place), f"{kind}, {how} x {asked.times}")


if __name__ == "__main__":
    main()
