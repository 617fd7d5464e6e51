"""How long the leaderboard page takes, and how large it is, with many records.

    python benchmarks/page.py [--runs 1000,10000,100000] [--keep FOLDER]

Fake records of every protocol: columns of 20 rows with 5 seeds, real in shape and size (the
scores and costs of a record, curves of streams). Times are CPU seconds of one process, and the
wall clock beside them; writing the fake records is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.board.page.blocks import group_runs
from dabench.board.page.build import leaderboard_page
from dabench.board.page.page_records import read_page_records
from dabench.board.tables.leaderboard import table
from dabench.registry.lookup import primary_metric
from dabench.registry.method_info import registered_info
from dabench.store.garbage import collector_paused
from dabench.store.identity import run_digest
from dabench.store.records import SCHEMA

SEEDS, VARIANTS = 5, ("", "lr=0.1", "temperature=0.5")
#: metric that ranks -> metrics of the whole set; streams have others
KINDS = {
    "HOS": ("OS*", "UNK", "HOS", "OS", "AUROC", "FPR95", "OSCR", "AUROC-maxprob"),
    "accuracy": ("accuracy", "mean_class_accuracy", "ECE"),
    "mIoU": ("mIoU", "pixel_accuracy", "below_source", "unlabelled"),
}
STREAM = ("accuracy", "below_source", "collapsed", "forgetting", "short")
METHODS = ("source", "target-supervised", "alpha", "beta", "gamma", "delta", "epsilon", "zeta")
STEPS, LEVELS, CLASSES = 48, 6, 10


def records(runs: int) -> Iterator[dict[str, Any]]:
    """Yield fake records; equal numbers give equal records."""
    draw = random.Random(runs)
    rows = [("source", ""), ("target-supervised", "")]
    rows += [(method, variant) for method in METHODS[2:] for variant in VARIANTS]
    made = column = 0
    while True:
        protocol = list(registry.PROTOCOLS)[column % len(registry.PROTOCOLS)]
        task = column // len(registry.PROTOCOLS)
        names = (f"set-{task // 12:02d}", f"domain-{task % 4}", f"domain-{(task // 4) % 3 + 4}")
        for place, (method, variant) in enumerate(rows[:20]):
            level = 0.45 + 0.02 * place + draw.uniform(-0.05, 0.05)
            for seed in range(SEEDS):
                value = min(0.99, max(0.01, draw.gauss(level, 0.02)))
                yield record(protocol, names, method, variant, seed, value)
                made += 1
                if made == runs:
                    return
        column += 1


def record(
    protocol: str, names: tuple[str, str, str], method: str, variant: str, seed: int, value: float
) -> dict[str, Any]:
    """Return one fake record whose scores lie around ``value``."""
    stream = protocol in registry.STREAMS
    dataset, source, target = names
    options = {part.split("=")[0]: float(part.split("=")[1]) for part in variant.split()}
    made = {
        "schema": SCHEMA,
        "spec": {
            "method": method,
            "protocol": protocol,
            **{"dataset": dataset, "source": source, "target": target, "init": "source"},
            **{"backbone": "small-cnn", "weights": "none", "image_size": 32, "epochs": 20},
            **{"batch_size": 64, "source_epochs": 8, "freeze": 0, "seed": seed},
            **{"device": "cpu", "threads": 1},
            "method_options": {"lr": 0.01, "temperature": 1.0} | options,
            "protocol_options": {"order": "random"} if stream else {"held_out": 0.3},
        },
        "variant": options,
        "ids": {n: f"{n}-{protocol}-{names}-{seed}" for n in ("data", "stream", "source")},
        "versions": {"method": "1", "protocol": "1", "dabench": "0.1.0"},
        "environment": {"device": "cpu", "threads": 1, "git_commit": "0123456789ab"},
        "cost": {
            **{"images_forward": 64.0 * STEPS * 2, "images_backward": 64.0 * STEPS},
            **{"adapt_seconds": 12.5, "seconds": 20.0, "peak_memory_bytes": 1e9},
        },
        "extras": [],
        "reconstruction": method == "alpha",
        "scores": list(scores(protocol, value, stream)),
        "curves": curves(value) if stream else [],
        "predictions": None,
    }
    return {"run_id": run_digest(made["spec"], made["versions"], made["ids"])} | made


def scores(protocol: str, value: float, stream: bool) -> Iterator[dict[str, Any]]:
    """Yield the scores of a record: whole, of parts, of classes."""
    kind = primary_metric(protocol, "").partition("/")[0]
    metrics = STREAM if stream and kind == "accuracy" else KINDS[kind]
    found = [(name, "all") for name in metrics]
    if stream:
        found += [(kind, f"level-{level}") for level in range(LEVELS)]
        found += [(kind, end) for end in ("final", "worst-window", "mean-conditions")]
    else:
        found += [(name, "held-out") for name in metrics]
    found += [("class_accuracy", str(number)) for number in range(CLASSES)]
    for place, (metric, segment) in enumerate(found):
        images = 64 * STEPS // (LEVELS if segment.startswith("level") else 1)
        moved = max(0.0, round(value - 0.003 * place, 4))
        yield {"metric": metric, "value": moved, "n": images, "segment": segment, "at": STEPS}


def curves(value: float) -> list[dict[str, Any]]:
    """Return the running accuracy of a stream, of the method and of the source model."""
    row = {"metric": "running_accuracy", "n": 320}
    return [
        {**row, "segment": segment, "at": at, "value": round(value * (1 - share * at / STEPS), 4)}
        for segment, share in (("all", 0.3), ("source", 0.6))
        for at in range(STEPS)
    ]


def write(root: Path, runs: int) -> None:
    """Write fake records into a results folder (not atomically: nobody else looks)."""
    for made in records(runs):
        spec = made["spec"]
        folder = root / "records" / spec["protocol"] / spec["dataset"]
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(made, ensure_ascii=False, indent=1)
        (folder / f"{made['run_id']}.json").write_text(text, encoding="utf-8")


def measure(root: Path) -> dict[str, float]:
    """Return CPU seconds of reading, of the table by itself, and of the page with its table."""
    clock, wall = time.process_time, time.perf_counter()
    start = clock()
    gathered = read_page_records(root, "", registered_info())
    read = clock()
    content = leaderboard_page(gathered, "source", registered_info())
    done, wall = clock(), time.perf_counter() - wall
    groups = group_runs(gathered.records)
    rows = sum(len(cells) for cells in groups.values())
    begin = clock()
    table(gathered.records, "source", registered_info())
    return {
        "runs": len(gathered.records),
        "rows": rows,
        "read s": read - start,
        "table + page s": done - read,
        "table alone s": clock() - begin,
        "all s": done - start,
        "wall s": wall,
        "MB": len(content) / 1e6,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a line for each number of runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", default="1000,10000,100000")
    parser.add_argument("--keep", help="write the fake records here, and leave them")
    args = parser.parse_args()
    for number in map(int, args.runs.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(args.keep or folder)
            write(root, number)
            with collector_paused():  # as the command does
                figures = measure(root)
        print("  ".join(f"{name} {value:,.1f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
