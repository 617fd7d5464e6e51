"""How long records take to become a leaderboard, and how that grows.

    OMP_NUM_THREADS=1 python benchmarks/board.py [--records 1000 10000 100000] [--folder DIR]

Generated records have the form and size of an open-set run (about 5 kB; what would lie beside them,
and no table opens, is left out), five seeds a row, twenty rows a column. Each count is measured in
processes of their own, CPU seconds (``process_time``) of one thread, files in the page cache:
``cold`` without the index beside the records, which it makes, ``warm`` with it. ``show`` is what
``dabench leaderboard`` prints, ``results`` stands for ``load_results`` (with the index, no part of
``total``). ``peak`` is what the process's resident memory grew by up to there; ``growth`` the
exponent from the line above (1 = in proportion to the records). The last column does not depend on
the machine: the total over reading the same files whole with ``json.loads`` and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS, ROWS = 5, 20
METRICS = ("OS*", "UNK", "HOS", "OS", "AUROC", "FPR95", "OSCR", "AUROC-maxprob")
STAGES = ("read", "table", "csv", "show", "total", "results")
INDEX = ("cold", "warm")


def generate(folder: Path, count: int) -> None:
    """Write ``count`` records as the store lays them out (without its fsync)."""
    from dabench.store.checksum import sealed, text_of
    from dabench.store.identity import run_digest
    from dabench.store.records import SCHEMA
    from dabench.store.store import Store

    store = Store(folder)
    for number in range(count):
        record = example(number)
        run_id = run_digest(record["spec"], record["versions"], record["ids"])
        record |= {"run_id": run_id, "schema": SCHEMA, "predictions": f"{run_id}.npz"}
        record |= {"predictions_checksum": "0" * 32}
        path = store.path("sf-osda", "digits", record["run_id"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text_of(sealed(record)))


def example(number: int) -> dict[str, Any]:
    """Return the record of a made-up run; a number decides seed, row and column."""
    seed, row, column = number % SEEDS, number // SEEDS % ROWS, number // SEEDS // ROWS
    options = {f"option_{i}": 0.1 * i for i in range(18)} | {"lr": 0.01 * row}
    value = (number * 2654435761 % 2**32) / 2**32

    def scores(at: int, segment: str) -> list[dict[str, Any]]:
        return [
            {"metric": m, "value": value / (i + 1), "n": 1258, "segment": segment, "at": at}
            for i, m in enumerate(METRICS)
        ]

    classes = [
        {"metric": "class_accuracy", "value": value, "n": 125, "segment": str(i), "at": 20}
        for i in range(7)
    ]
    return {
        "run_id": "",
        "spec": {
            "method": "usd" if row else "source",
            "protocol": "sf-osda",
            "dataset": "digits",
            "source": "print",
            "target": "handwritten",
            "init": "source",
            "backbone": "small-cnn",
            "weights": "none",
            "image_size": 32,
            "epochs": 20 + column,
            "batch_size": 64,
            "source_epochs": 8,
            "freeze": 0,
            "seed": seed,
            "device": "cpu",
            "threads": 1,
            "method_options": options,
            "protocol_options": {"split": "default", "held_out": 0.3, "unknown_share": None},
        },
        "variant": {"lr": 0.01 * row} if row > 1 else {},
        "ids": {"data": "d" * 64, "stream": f"{seed:064d}", "source": f"{seed:032d}"},
        "versions": {"dabench": "0.1.0", "method": "1", "protocol": "1", "torch": "2.15.0"},
        "environment": {"device": "cpu", "threads": 1, "workers": 0, "git_commit": "0" * 12},
        "cost": {"images_forward": 1e5, "images_backward": 2.5e4, "adapt_seconds": 38.0}
        | {"parameters": 183612.0, "seconds": 40.0, "peak_memory_bytes": 1.1e9},
        "extras": [],
        "reconstruction": True,
        "scores": [*scores(20, "all"), *classes, *scores(20, "held-out")],
    }


def measure(folder: Path) -> dict[str, float]:
    """Read the records, make the table, write it; return CPU seconds, lines and memory."""
    from dabench.board.tables.csv_file import write_csv
    from dabench.board.tables.leaderboard import table
    from dabench.cli.table_output import show_table
    from dabench.store.frames import load_results
    from dabench.store.store import Store

    floor = bare(folder)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    records = [record for _, record in Store(folder, curves=False).read()]
    read = time.process_time()
    frame = table(records)
    tabled = time.process_time()
    write_csv(frame, folder / "leaderboard.csv")
    written = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        show_table(frame)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    lines = len(frame)
    del records, frame
    loaded = time.process_time()
    load_results(folder)
    loaded = time.process_time() - loaded
    spent = (read - start, tabled - read, written - tabled, done - written, done - start, loaded)
    seconds = dict(zip(STAGES, spent, strict=True))
    return seconds | {"lines": lines, "peak": peak / 1024, "floor": floor}


def bare(folder: Path, sample: int = 1000) -> float:
    """Return the CPU seconds a record of parsing whole files."""
    paths = list(itertools.islice((folder / "records").glob("*/*/*.json"), sample))
    texts = [path.read_bytes() for path in paths]  # warm
    start = time.process_time()
    for path in paths:
        json.loads(path.read_bytes())
    return (time.process_time() - start) / len(texts)


def profile(folder: Path) -> None:
    """Print where the time goes."""
    import cProfile
    import pstats

    with cProfile.Profile() as found:
        measure(folder)
    pstats.Stats(found).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Print the table."""
    from dabench.store.index import SETTLED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="for the generated records (about 0.6 GB)")
    parser.add_argument("--profile", action="store_true", help="of the first count")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    heads = ["records", "index", *(f"{stage} s" for stage in STAGES)]
    heads += ["µs a record", "lines", "peak MB"]
    print(f"| {' | '.join([*heads, 'growth', '× json'])} |")
    print("|" + " --- |" * (len(heads) + 2))
    before: dict[str, tuple[int, float]] = {}
    for count in args.records:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            generate(Path(name), count)
            if args.profile:
                profile(Path(name))
                return
            time.sleep(SETTLED / 1e9)  # files of this moment get no entry
            command = [sys.executable, __file__, "--measure", name]
            for index in INDEX:
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout)
                total = found["total"]
                growth = exponent(before[index], (count, total)) if index in before else ""
                shown = " | ".join(f"{found[stage]:.2f}" for stage in STAGES)
                print(
                    f"| {count} | {index} | {shown} | {1e6 * total / count:.0f} | "
                    f"{found['lines']} | {found['peak']:.0f} | {growth} | "
                    f"{total / count / found['floor']:.1f} |",
                    flush=True,
                )
                before[index] = (count, total)


def exponent(before: tuple[int, float], after: tuple[int, float]) -> str:
    """Return b of seconds ~ records^b between two lines."""
    return f"{math.log(after[1] / before[1]) / math.log(after[0] / before[0]):.2f}"


if __name__ == "__main__":
    main()
