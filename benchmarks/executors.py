"""What an executor costs a run: empty runs by processes here, Ray and submitit's local engine.

    python benchmarks/executors.py [--runs 40] [--slots 2] [--seconds 0]

With ``--seconds 2 --slots 64`` it is Ray's share of a linear speed-up, since a sleep needs no core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fake_runs import FUNCTION, PRELOAD, Silent, jobs_of  # noqa: E402

from dabench.config.settings import Settings  # noqa: E402
from dabench.store.store import Store  # noqa: E402
from dabench.sweep.executor import Executor  # noqa: E402
from dabench.sweep.loop import Tally, run_jobs  # noqa: E402


def spend(executor: Executor, folder: Path, runs: int, slots: int) -> float:
    """Return the seconds of a sweep; a run a slot before it starts what is slow to start."""
    for seeds in (f"10-{9 + slots}", f"100-{99 + runs}"):
        jobs, tally, start = jobs_of(seeds, folder / "results"), Tally(), time.perf_counter()
        run_jobs(jobs, executor, Store(folder / "results"), Silent(), tally)
        assert not tally.failed, tally.failed[0].error
    seconds = time.perf_counter() - start
    executor.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--only", default="local,ray,slurm")
    asked = parser.parse_args()
    os.environ["FAKE_SECONDS"] = str(asked.seconds)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    best = asked.runs * asked.seconds / asked.slots
    for kind in asked.only.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "results").mkdir()
            os.environ["FAKE_RUNS"] = name
            settings = Settings(folder / "results", None, folder / "cache")
            if kind == "local":
                from dabench.sweep.executors.local import LocalExecutor

                spent = spend(
                    LocalExecutor(settings, asked.slots, FUNCTION, PRELOAD),
                    folder,
                    asked.runs,
                    asked.slots,
                )
            elif kind == "slurm":
                from dabench.sweep.executors.slurm import Request, SlurmExecutor

                chunk = -(-asked.runs // asked.slots)
                engine = SlurmExecutor(settings, Request(chunk), FUNCTION, PRELOAD, "local")
                spent = spend(engine, folder, asked.runs, asked.slots)
            else:
                from ray.cluster_utils import Cluster

                from dabench.sweep.executors import ray

                small = {"object_store_memory": 200 * 2**20, "include_dashboard": False}
                cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
                for _ in range(2):
                    cluster.add_node(num_cpus=asked.slots // 2, object_store_memory=200 * 2**20)
                request = ray.Request(cluster.address)
                spent = spend(
                    ray.RayExecutor(settings, request, FUNCTION), folder, asked.runs, asked.slots
                )
                cluster.shutdown()
        share = f", {best / spent:.2f} of linear" if best else ""
        each = f"{spent / asked.runs:.3f} s a run{share}"
        print(f"{kind}: {asked.runs} runs, {asked.slots} at a time: {each}")


if __name__ == "__main__":
    main()
