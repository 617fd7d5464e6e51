"""Records that somebody offers: what speaks against them, and the text of a pull request."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dabench import registry
from dabench.board.statistics.tasks import primary_lines
from dabench.board.tables.leaderboard import table
from dabench.config.spec import variant_of
from dabench.errors import StoreError, one_line, shown
from dabench.registry.marks import ANSWERS_AFTER, FROZEN_TRUNK, TARGET_LABELS
from dabench.registry.method_info import MethodInfo
from dabench.store.identity import id_versions
from dabench.store.reading import load_record
from dabench.store.records import Record
from dabench.store.score_check import check_scores
from dabench.store.soundness import check_place
from dabench.store.store import Store

_CHECKS = (
    "- [ ] options were chosen without labels of these targets; how: ...",
    "- [ ] leaderboard, tables and cards were made again, as `dabench submit` printed it",
)
_HEAD = ("protocol", "data", "row", "version", "seeds", "metric", "mean", "− `source`")


@dataclass(frozen=True)
class Submission:
    """Records with what was found of them.

    Attributes:
        runs: file and content of every sound record, in the order of their names.
        problems: why they cannot be taken as they are, a line each.
        remarks: what a reader of the pull request should know.
        lines: the leaderboard's lines with these records, by the metric that ranks.
    """

    runs: list[tuple[Path, Record]]
    problems: list[str]
    remarks: list[str]
    lines: pd.DataFrame


def examine(files: Iterable[Path], store: Store, info: MethodInfo) -> Submission:
    """Check records as every table does, among themselves and beside those of a store.

    Args:
        files: the records that are offered, in the store's layout; they may lie in the store.
        store: the records that are there already.
        info: the metrics that rank.
    """
    runs, problems = _read(files)
    remarks = [remark for _, record in runs for remark in _remarks(record)]
    offered = {str(record["run_id"]): record for _, record in runs}
    places = {path.resolve() for path, _ in runs}
    there = [(path, r) for path, r in store.read() if path.resolve() not in places]
    problems += [
        f"{path}: run {record['run_id']} is in {store.records} already; leave one of them out"
        for path, record in there
        if record["run_id"] in offered
    ]
    if not offered:
        return Submission(runs, problems, [], pd.DataFrame())
    known = [record for _, record in there if record["run_id"] not in offered]
    frame = table([*known, *offered.values()], "source", info)
    problems += _refuses(table(known, "source", info), frame, offered)
    frame = frame[[bool(offered.keys() & set(str(runs).split())) for runs in frame["runs"]]]
    refused = frame[frame["note"] != ""].drop_duplicates(["column", "method", "variant", "note"])
    problems += [f"{li['column']}, {_name(li)}: {li['note']}" for li in refused.to_dict("records")]
    return Submission(runs, problems, list(dict.fromkeys(remarks)), primary_lines(frame, info))


def _refuses(before: pd.DataFrame, after: pd.DataFrame, offered: Container[str]) -> list[str]:
    """Name the rows without an offered run that stand in the tables now, and would be refused."""
    place = ["column", "method", "variant", "version"]
    stood = {tuple(row) for row in before.loc[before["note"] == "", place].to_numpy()}
    found = after[after["note"] != ""].drop_duplicates([*place, "note"]).to_dict("records")
    return [
        f"{line['column']}, {_name(line)}: this row is there already, and beside these records it "
        f"would be {line['note']}"
        for line in found
        if tuple(line[name] for name in place) in stood
        and not any(run in offered for run in str(line["runs"]).split())
    ]


def _read(files: Iterable[Path]) -> tuple[list[tuple[Path, Record]], list[str]]:
    runs: list[tuple[Path, Record]] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in sorted(files):
        try:
            record = load_record(path, curves=False)
            check_place(path, record, seen)
            _check_predictions(path, record)
            _check_versions(path, record)
            _check_marks(path, record)
            record = load_record(path, strict=True)
            spec = record["spec"]
            check_scores(path, record, registry.primary_metric(spec["protocol"], spec["dataset"]))
        except StoreError as error:
            problems.append(str(error))
        else:
            runs.append((path, record))
    return runs, problems


def _check_predictions(path: Path, record: Record) -> None:
    name = record.get("predictions")
    if name and not path.with_name(str(name)).is_file():
        raise StoreError(f"{path}: its predictions {name} do not lie beside it; bring them too")


def _check_versions(path: Path, record: Record) -> None:
    """Refuse a record of an earlier version of its method, protocol or start.

    The version of dabench itself decides no number, and is not compared.
    """
    spec, versions = record["spec"], record["versions"]
    method, protocol = spec["method"], spec["protocol"]
    if method not in registry.METHODS or protocol not in registry.PROTOCOLS:
        return  # code of somebody's own
    now = id_versions(
        registry.version_of("method", method, registry.method(method)),
        registry.version_of("protocol", protocol, registry.protocol(protocol)),
        spec["init"],
    )
    for kind, version in now.items():
        if str(versions.get(kind, "1")) != version:
            raise StoreError(
                f"{path}: of version {versions.get(kind, 1)} of {spec[kind]}, which has {version} "
                "now; run it again"
            )


def _check_marks(path: Path, record: Record) -> None:
    """Refuse a record whose row would say other things of its method than its spec and class do.

    A run with changed options is no row of the defaults, and a reconstruction says so.
    """
    spec = record["spec"]
    if spec["method"] not in registry.METHODS or spec["protocol"] not in registry.PROTOCOLS:
        return
    method = registry.method(spec["method"])
    variant = variant_of(spec["method"], spec["method_options"])
    if record.get("variant", {}) != variant:
        raise StoreError(
            f"{path}: its variant is {shown(record.get('variant', {}))}, and by its spec it is "
            f"{shown(variant)}; run it again"
        )
    if bool(record.get("reconstruction", False)) != bool(method.reconstruction):
        raise StoreError(
            f"{path}: {spec['method']} is {'a' if method.reconstruction else 'no'} "
            "reconstruction, and the record says otherwise; run it again"
        )
    if missing := sorted(_due(spec, method) - set(record.get("extras", ()))):
        raise StoreError(
            f"{path}: {spec['method']} takes {', '.join(missing)}, which its extras do not name; "
            "run it again"
        )


def _due(spec: Mapping[str, Any], method: type[Any]) -> set[str]:
    """Return the extras that a record of this spec has: those that keep a row from ranks too."""
    name, due = spec["method"], set(method.extras)
    due |= {TARGET_LABELS} if name == MethodInfo().upper_bound else set()
    due |= {FROZEN_TRUNK} if registry.METHODS[name].frozen_trunk else set()
    after = getattr(method, "answers", "before") == "after"
    if after and registry.kind_of(spec["protocol"]) == "classification":  # frames have no such mark
        due.add(ANSWERS_AFTER)
    return due


def _remarks(record: Record) -> list[str]:
    spec, found = record["spec"], []
    if not record.get("predictions"):
        found.append("some records have no predictions: their scores cannot be computed anew")
    for plugin in record.get("plugins", ()):
        found.append(f"{plugin['kind']} `{plugin['name']}` is no part of dabench: bring its code")
    if str(record.get("environment", {}).get("git_commit") or "").endswith("+"):
        found.append("made from a changed working tree: say what was changed")
    if "checksum" not in record:
        found.append("some records have no checksum: they were made before there were any")
    if record.get("tuned"):
        found.append(f"options of `{spec['method']}` are from a file of `dabench tune`: bring it")
    return found


def pull_request(found: Submission, reproduced: Sequence[str]) -> str:
    """Return the text of the pull request, in Markdown.

    Args:
        found: what was examined.
        reproduced: how each run ended that was made again.
    """
    about = sorted({f"{r['spec']['protocol']} on {r['spec']['dataset']}" for _, r in found.runs})
    rows = [_HEAD, *(_row(line) for line in found.lines.to_dict("records"))]
    head, *body = (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    again = [f"- {one_line(text)}" for text in reproduced] or ["- nothing"]
    known = [f"- {one_line(text)}" for text in found.remarks] or ["- nothing"]
    made = _made_with([record for _, record in found.runs])
    counted = "1 run," if len(found.runs) == 1 else f"{len(found.runs)} runs,"
    return "\n".join(
        [
            *(f"# Records: {one_line(', '.join(about))}", ""),
            *(f"{counted} checked by `dabench submit`.", ""),
            *(head, "|" + " --- |" * len(_HEAD), *body, ""),
            *("## Made with", "", *made, ""),
            *("## Run again", "", *again, ""),
            *("## To know", "", *known, ""),
            *("## Before it is opened", "", *_CHECKS, ""),
        ]
    )


def _made_with(records: Sequence[Record]) -> list[str]:
    def values(part: str, name: str) -> str:
        found = {str(record.get(part, {}).get(name, "?")) for record in records}
        return one_line(", ".join(sorted(found)))

    return [
        f"- dabench {values('versions', 'dabench')}, torch {values('versions', 'torch')}",
        f"- commit {values('environment', 'git_commit')}",
        f"- {values('spec', 'device')}, threads {values('spec', 'threads')}",
    ]


def _row(line: dict[Any, Any]) -> list[str]:
    gap = "–" if pd.isna(line["diff_mean"]) else f"{line['diff_mean']:+.3f}"
    gap += f" ({line['verdict']})" if isinstance(line["verdict"], str) and line["verdict"] else ""
    mean = "–" if pd.isna(line["mean"]) else f"{line['mean']:.3f}"
    data = f"{line['dataset']} {line['task']}" + (f" {line['split']}" if line["split"] else "")
    name = f"`{_name(line)}`"
    about = [line["protocol"], data, name, line["version"], str(line["seeds"]), line["metric"]]
    return [*about, mean, gap]


def _name(line: dict[Any, Any]) -> str:
    return f"{line['method']} {line['variant']}".strip()


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
