"""What a run's record and a queued run cost: seconds, bytes, files, memory of the driver.

    OMP_NUM_THREADS=1 python benchmarks/store.py [--records 200] [--queued 10000] [--folder DIR]

Records are those of a stream of 11,520 images with its curves, as of the committed results; each
has other predictions. A queued run is a ``Job`` of a plan; its size is what Python allocates
(``tracemalloc``), and what is pickled of it for a worker.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from dabench.store.arrays import file_beside, read_arrays
from dabench.store.identity import run_digest
from dabench.store.reading import load_record
from dabench.store.store import Store
from dabench.sweep.grid import expand
from dabench.sweep.plan import make_plan

RECORDS = Path(__file__).parents[1] / "results" / "records"


def write(folder: Path, count: int) -> None:
    """Write records of one stream; print what one costs, and what it costs to read."""
    path = min((RECORDS / "gradual-weather" / "aid").glob("*.json"))
    record = load_record(path)
    arrays, store = read_arrays(file_beside(path, record)), Store(folder)
    for name in ("predictions", "predictions_checksum"):
        del record[name]
    made = []
    for number in range(count):
        spec = record["spec"] | {"seed": number}
        run_id = run_digest(spec, record["versions"], record["ids"])
        generator = np.random.default_rng(number)
        other = dict(arrays)
        for name in ("stream.prediction", "stream.confidence"):
            other[name] = generator.permutation(arrays[name])
        made.append((record | {"spec": spec, "run_id": run_id}, other))
    wall, cpu = time.perf_counter(), time.process_time()
    paths = [store.write(*pair) for pair in made]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"written: {1e3 * cpu / count:.1f} ms of CPU a record, {1e3 * wall / count:.0f} ms with")
    print("  the disk's fsync (of this machine at this hour)")
    text = sum(path.stat().st_size for path in paths)
    beside = sum(path.with_suffix(".npz").stat().st_size for path in paths)
    shared = [file.stat().st_size for file in (folder / "records" / "shared").iterdir()]
    print(f"bytes: {text / count:.0f} JSON + {beside / count:.0f} beside, two files a record;")
    print(f"  shared by all: {sum(shared)} in {len(shared)}")
    for name, reader in (("with curves", Store(folder)), ("strict", Store(folder, index=False))):
        cpu = time.process_time()
        assert len(list(reader.all())) == count
        print(f"read {name}: {1e3 * (time.process_time() - cpu) / count:.1f} ms a record")


def queue(folder: Path, count: int) -> None:
    """Print what a plan of runs costs that have no record yet."""
    usual = {"threads": 1, "device": "cpu"}
    tree = {"protocol": "sf-osda", "dataset": "digits", "method": ["source", "usd"]}
    store = Store(folder, curves=False)
    make_plan(expand(tree | {"seeds": "0-1"}, "grid", usual, {}).specs, store)  # imports
    tree |= {"seeds": f"0-{count // 2 - 1}"}
    cpu = time.process_time()
    make_plan(expand(tree, "grid", usual, {}).specs, store)
    cpu = time.process_time() - cpu
    tracemalloc.start()
    plan = make_plan(expand(tree, "grid", usual, {}).specs, store)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"queued: {size / len(plan.jobs) / 1024:.2f} kB of memory a run in the driver,")
    pickled = len(pickle.dumps(plan.jobs[0].spec))
    print(f"  {pickled / 1024:.2f} kB pickled; {1e6 * cpu / len(plan.jobs):.0f} µs a run to plan")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="for what is written")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        write(Path(name) / "written", asked.records)
        queue(Path(name) / "queued", asked.queued)


if __name__ == "__main__":
    main()
