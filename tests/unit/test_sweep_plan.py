"""What of a grid is to do: records that count, guesses of time, keys that runs share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.config.command import run_command
from dabench.config.spec import RunSpec, resolve
from dabench.config.tuned import Tuned
from dabench.errors import ConfigError
from dabench.store.identity import run_digest
from dabench.store.records import Record
from dabench.store.store import Store
from dabench.sweep.plan import Job, make_plan, time_estimator, versions_of

COMMON = {"method": "shot", "protocol": "sf-osda", "device": "cpu", "threads": 1}


def specs(**given: Any) -> list[RunSpec]:
    return resolve(COMMON | {name.replace("_", "-"): value for name, value in given.items()})


def record(spec: RunSpec, seconds: float = 5.0) -> Record:
    ids = {"data": "d", "stream": "t", "source": "s"}
    return {
        "run_id": run_digest(spec.to_dict(), versions_of(spec), ids),
        "spec": spec.to_dict(),
        "versions": versions_of(spec),
        "ids": ids,
        "cost": {"seconds": seconds},
        "scores": [],
    }


def test_what_has_a_record_is_not_to_do(tmp_path: Path) -> None:
    wanted, store = specs(seeds="0-2"), Store(tmp_path)
    store.write(record(wanted[1]))
    found = make_plan(wanted, store)
    assert [job.spec.seed for job in found.jobs] == [0, 2]
    assert (found.done, found.other_threads) == (1, 0)
    assert len(make_plan(wanted, store, force=True).jobs) == 3


def test_with_models_a_record_without_its_model_is_to_do(tmp_path: Path) -> None:
    wanted, store = specs(seeds="0-1"), Store(tmp_path)
    for spec in wanted:
        store.write(record(spec))
    folder = tmp_path / "runs" / record(wanted[1])["run_id"] / "model"
    folder.mkdir(parents=True)
    (folder / "model.yaml").touch()
    assert not make_plan(wanted, store).jobs
    found = make_plan(wanted, store, models=True)
    assert ([job.spec.seed for job in found.jobs], found.done) == ([0], 1)


def test_a_record_of_another_version_or_a_failed_one_does_not_count(tmp_path: Path) -> None:
    wanted, store = specs(seeds="0-1"), Store(tmp_path)
    old = record(wanted[0])
    store.write(old | {"versions": {**old["versions"], "method": "0"}})
    store.write_failed(record(wanted[1]), "boom")
    assert len(make_plan(wanted, store).jobs) == 2


def test_a_record_whose_predictions_are_gone_does_not_count(tmp_path: Path) -> None:
    wanted, store = specs(seeds="0-2"), Store(tmp_path, curves=False)
    arrays = {"adapt.prediction": np.arange(3)}
    paths = [store.write(record(spec), arrays) for spec in wanted[:2]]
    older = record(wanted[2])
    older |= {"schema": 1, "predictions": f"{older['run_id']}.npz", "curves": []}
    paths[0].with_name(f"{older['run_id']}.json").write_text(
        json.dumps(older)
    )  # from before there were checksums: 'run' takes it
    assert make_plan(wanted, store).done == 3
    paths[0].with_suffix(".npz").unlink()
    found = make_plan(wanted, store)
    assert ([job.spec.seed for job in found.jobs], found.done, found.other_threads) == ([0], 2, 0)
    (line,) = found.problems
    assert line.startswith(f"{paths[0]}: its predictions {paths[0].stem}.npz do not lie beside it")


def test_a_mark_that_records_lack_is_asked_for_or_said(tmp_path: Path) -> None:
    (spec,), store = specs(), Store(tmp_path)
    file = Tuned("mine.yaml", "0" * 64, (), whole=True)
    tuned = replace(spec, tuned=file)
    path = store.write(record(spec))
    assert make_plan([tuned], store).by_hand == 1
    assert make_plan([spec], store).by_hand == 0
    said = f"run {path.stem} has a record without the mark 'target-tuned'; give --force"
    with pytest.raises(ConfigError, match=said):
        make_plan([spec], store, target_tuned=True)
    assert len(make_plan([tuned], store, target_tuned=True, force=True).jobs) == 1
    store.write(record(spec) | {"target_tuned": True, **file.mark()})
    found = make_plan([tuned], store, target_tuned=True)
    assert (found.done, found.by_hand) == (1, 0)


def test_other_threads_are_another_run_and_said_so(tmp_path: Path) -> None:
    wanted, store = specs(), Store(tmp_path)
    store.write(record(replace(wanted[0], threads=2)))
    found = make_plan(wanted, store)
    assert (len(found.jobs), found.other_threads) == (1, 1)


def test_damaged_records_are_named_and_do_not_stop_it(tmp_path: Path) -> None:
    wanted, store = specs(seeds="0-1"), Store(tmp_path)
    path = store.write(record(wanted[0]))
    path.with_name("broken.json").write_text("{")
    path.with_name("edited.json").write_text('{"schema": 1, "spec": null}')
    found = make_plan(wanted, store)
    assert found.done == 1
    assert [name for line in found.problems for name in ("broken", "edited") if name in line] == [
        *("broken", "edited"),
    ]


def test_guesses_go_from_the_same_run_to_the_same_pair() -> None:
    (spec,) = specs(epochs=2)
    guess = time_estimator(
        [
            record(spec, seconds=4.0),
            record(replace(spec, seed=9, threads=2), seconds=6.0),
            record(replace(spec, epochs=20), seconds=50.0),
            record(replace(spec, epochs=20, image_size=64, dataset="aid"), seconds=90.0),
        ]
    )
    assert guess(spec) == 5.0  # the same but for seed and threads
    assert guess(replace(spec, epochs=3)) == 7.5  # the same data: 3 × median of 2, 3, 2.5 an epoch
    assert guess(replace(spec, dataset="pacs")) == 5.5  # the same pair: of 2, 3, 2.5, 4.5
    assert guess(replace(spec, protocol="sf-uda")) is None


def test_runs_that_may_share_a_source_model_have_one_key() -> None:
    def key(**given: Any) -> tuple[Any, ...]:
        return Job(specs(**given)[0], "").source_key

    assert key() == key(init="bn-target") == key(protocol="sf-uda") == key(source_seed=0)
    assert key(seed=3, source_seed=0) == key()
    different = [key(), key(seed=1), key(source_epochs=1), key(backbone="resnet18")]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize(
    "given",
    [
        {"method": "shot", "protocol": "sf-uda", "seed": 3, "epochs": 7},
        {
            "method": "usd",
            "init": "source",
            "method.criterion": "entropy",
            "method.teacher": "false",
            "protocol.unknown_share": 0.25,
            "source-seed": 4,
            "threads": 2,
        },
        {"method": "tent", "protocol": "gradual-weather", "protocol.weather": "fog+rain"},
        {"method": "transadapt", "method.head_steps": 3},
        {"method": "shot", "dataset": "image-folder", "source": "my photos", "target": "b"},
    ],
)
def test_the_command_of_a_run_makes_the_same_spec(given: dict[str, Any]) -> None:
    import shlex

    (spec,) = resolve({"device": "cpu", "threads": 1} | given)
    words = shlex.split(run_command(spec))
    assert words[:2] == ["dabench", "run"]
    again = {w.removeprefix("--"): v for w, v in zip(words[2::2], words[3::2], strict=True)}
    assert resolve(again) == [spec]


def test_names_have_what_varies_in_a_grid(tmp_path: Path) -> None:
    def names(*wanted: RunSpec) -> list[str]:
        return [job.name for job in make_plan(wanted, Store(tmp_path)).jobs]

    here = "shot · sf-osda · digits print→handwritten ·"
    varied = [*specs(seeds="0-1"), *specs(epochs=3, batch_size=8), *specs(source_seed=7)]
    usual = f"epochs={varied[0].epochs} batch-size={varied[0].batch_size}"
    assert names(*varied) == [
        f"{here} {usual} · seed 0",
        f"{here} {usual} · seed 1",
        f"{here} epochs=3 batch-size=8 · seed 0",
        f"{here} {usual} source-seed=7 · seed 0",
    ]
    # runs that are told apart without it keep their names
    assert names(*specs(), *specs(protocol="sf-uda", epochs=3, backbone="resnet18")) == [
        f"{here} seed 0",
        f"{here.replace('sf-osda', 'sf-uda')} seed 0",
    ]


def test_names_tell_runs_apart() -> None:
    (spec,) = specs(init="bn-target", seed=2)
    assert Job(spec, "").name == "shot+bn · sf-osda · digits print→handwritten · seed 2"
    (other,) = resolve(
        COMMON | {"method": "usd", "method.criterion": "entropy", "protocol.split": "r3"}
    )
    assert Job(other, "").name == (
        "usd+bn criterion=entropy · sf-osda split=r3 · digits print→handwritten · seed 0"
    )
