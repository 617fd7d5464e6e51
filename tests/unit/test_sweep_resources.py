"""What methods need besides the usual: read from a grid, compared with what there is, kept to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dabench.cli.engines import Engine
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.errors import ConfigError
from dabench.store.store import Store
from dabench.sweep.executors import local
from dabench.sweep.executors.local import LocalExecutor
from dabench.sweep.grid import Grid, expand, read
from dabench.sweep.plan import Job, SweepPlan, in_order, make_plan, seconds_of
from dabench.sweep.resources import USUAL, Resources, lacking

TREE = {"protocol": "sf-osda", "method": ["source", "shot", "usd"], "device": "cpu"}


def grid_of(resources: Any, **more: Any) -> Grid:
    return expand({**TREE, **more, "resources": resources}, "g.yaml", {"threads": 1}, {})


def jobs_of(resources: Any, tmp_path: Path) -> dict[str, Job]:
    grid = grid_of(resources)
    plan = make_plan(grid.specs, Store(tmp_path), resources=grid.resources)
    return {job.spec.method: job for job in plan.jobs}


def test_resources_go_to_the_runs_of_their_method_and_to_no_record(tmp_path: Path) -> None:
    asked = {"shot": {"gpus": 0.5, "memory": "1.5 GB"}, "usd": {"cpus": 2}}
    jobs = jobs_of(asked, tmp_path)
    assert jobs["shot"].resources == Resources(None, 0.5, 1_500_000_000)
    assert jobs["usd"].resources == Resources(cpus=2)
    assert jobs["source"].resources == USUAL
    # cores are the usual threads, as with --cpus-per-run; the rest decides no number
    assert {name: job.spec.threads for name, job in jobs.items()} == {
        **{"source": 1, "shot": 1, "usd": 2},
    }
    assert [spec.threads for spec in grid_of(asked, threads=3).specs] == [3, 3, 3]
    plain = expand(TREE, "g.yaml", {"threads": 1}, {}).specs
    assert [spec for spec in plain if spec.method == "shot"] == [jobs["shot"].spec]


def test_a_file_may_ask_for_them(tmp_path: Path) -> None:
    """A reader of files leaves words as they are written: ``1`` is text there."""
    file = tmp_path / "g.yaml"
    file.write_text(
        "protocol: sf-osda\nmethod: [source, shot]\n"
        "resources:\n  shot: {gpus: 0.5, memory: 16 GB}\n  source: {cpus: 2, gpus: 0}\n"
    )
    found = expand(read(file), "g.yaml", {"threads": 1}, {"device": "cpu"})
    assert found.resources == {
        "shot": Resources(None, 0.5, 16 * 10**9),
        "source": Resources(2, 0.0),
    }
    assert [spec.threads for spec in found.specs] == [2, 1]
    file.write_text("method: shot\nresources:\n  shot: {cpus: 01}\n")
    with pytest.raises(ConfigError, match="cpus '01': expected a whole number from 1"):
        expand(read(file), "g.yaml", {"threads": 1}, {})


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ([1], "grid g.yaml: resources: expected methods"),
        ({"shott": {"gpus": 1}}, "unknown method 'shott'; did you mean 'shot'"),
        ({"shot": 1}, "resources of 'shot': expected cpus, gpus or memory"),
        ({"shot": {}}, "resources of 'shot': expected cpus, gpus or memory"),
        ({"shot": {"gpu": 1}}, "resources of 'shot': unknown key 'gpu'; did you mean 'gpus'"),
        ({"shot": {"gpus": 1.5}}, "gpus 1.5: expected a whole number, or a part of 1"),
        ({"shot": {"gpus": True}}, "gpus True: expected a whole number"),
        ({"shot": {"cpus": 0}}, "cpus 0: expected a whole number from 1"),
        ({"shot": {"memory": 16}}, "memory 16: expected text such as 16 GB"),
        ({"shot": {"memory": "lots"}}, "memory 'lots': expected text such as 16 GB"),
    ],
)
def test_bad_resources(resources: Any, message: str) -> None:
    with pytest.raises(ConfigError, match="resources") as caught:
        grid_of(resources)
    assert message in str(caught.value)


def test_only_the_top_of_a_grid_has_resources() -> None:
    block = {"blocks": [{"resources": {"shot": {"gpus": 1}}}]}
    with pytest.raises(ConfigError, match="block 1: unknown key 'resources'"):
        expand({**TREE, **block}, "g.yaml", {"threads": 1}, {})


def test_what_is_lacking_is_counted_together() -> None:
    there = Resources(4, 1.0, 8 * 10**9)
    half = Resources(gpus=0.5, memory=10**9)
    assert lacking([half, half, USUAL, Resources(cpus=4)], there) == []
    assert lacking([half, half, half], there) == ["1.5 GPUs of 1"]
    assert lacking([Resources(cpus=5), Resources(memory=9 * 10**9)], there) == [
        *("5 CPUs of 4", "9 GB of 8"),
    ]


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(local, "available_cores", lambda: 4)
    monkeypatch.setattr(local, "available_gpus", lambda: 1)
    monkeypatch.setattr(local, "_start_server", lambda: None)
    made = LocalExecutor(Settings(tmp_path, None, tmp_path / "cache"), 2)
    yield made
    made._children.clear()
    made.close()


def test_a_run_that_asks_for_more_than_the_machine_has_is_refused_by_name(
    executor: Any, tmp_path: Path
) -> None:
    jobs = jobs_of({"shot": {"gpus": 2}, "usd": {"cpus": 4}}, tmp_path)
    executor.check([jobs["usd"], jobs["source"]])
    with pytest.raises(ConfigError, match=r"resources of 'shot': a run asks for 2 GPUs of 1"):
        executor.check([*jobs.values()])


def test_processes_share_what_the_machine_has(executor: Any, tmp_path: Path) -> None:
    jobs = jobs_of({"shot": {"gpus": 1}, "usd": {"gpus": 0.5}}, tmp_path)
    executor.check([*jobs.values()])
    assert executor.takes(jobs["shot"])
    executor._children.append(type("Child", (), {"job": jobs["usd"]}))
    assert not executor.takes(jobs["shot"])
    assert executor.takes(jobs["usd"])
    assert executor.takes(jobs["source"])


def test_a_sweep_says_so_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "method: [source, shot]\nprotocol: sf-osda\nthreads: 1\ndevice: cpu\n"
    (tmp_path / "g.yaml").write_text(f"{text}resources: {{shot: {{memory: 900000 GB}}}}\n")
    assert main(["sweep", "g.yaml"]) == 2
    assert "resources of 'shot': a run asks for 900000 GB of " in capsys.readouterr().err
    assert not list((tmp_path / "results").glob("records/**/*.json"))


def test_on_a_cluster_runs_with_a_gpu_of_their_own_are_on_it() -> None:
    plain, gpus = (Engine("ray", {}, 1, gpu, 8) for gpu in (False, True))
    asked = {"shot": {"gpus": 1}, "usd": {"gpus": 0}}
    assert placed(plain, device="auto", resources=asked) == ["cpu", "cuda", "cpu"]
    assert placed(gpus, device="auto", resources=asked) == ["cuda", "cuda", "cpu"]
    assert placed(gpus, device="cpu", resources=asked) == ["cpu"] * 3
    with pytest.raises(ConfigError, match="ask for GPUs"):
        placed(plain, device="cuda", resources=asked)


def test_on_a_cluster_the_device_of_a_grid_is_that_of_its_runs() -> None:
    """It is part of a run's id: the same grid here and there is the same runs."""
    plain, gpus = (Engine("slurm", {}, 1, gpu, 8) for gpu in (False, True))
    blocks = {"method": "source", "blocks": [{"device": "cpu"}, {"device": "cuda", "devices": 2}]}
    assert placed(gpus, **blocks) == ["cpu", "cuda"]
    with pytest.raises(ConfigError, match=r"grid g\.yaml: --device cuda: ask for GPUs, too"):
        placed(plain, **blocks)
    both = {"method": "source", "device": ["auto", "cpu", "cuda"]}
    assert placed(gpus, **both) == ["cuda", "cpu"]
    assert placed(gpus, over={"device": "cpu"}, **both) == ["cpu"]
    for device in ("cuda:1", "mps", "gpu"):
        with pytest.raises(ConfigError, match=f"grid g.yaml: --device '{device}': runs on a"):
            placed(gpus, device=device)


def placed(engine: Engine, over: Any = None, **more: Any) -> list[str]:
    tree = {key: value for key, value in TREE.items() if key != "device"}
    grid = expand({**tree, **more}, "g.yaml", {"threads": 1}, over or {}, here=False)
    return [spec.device for spec in engine.place(grid).specs]


def timed(*seconds: float | None) -> SweepPlan:
    (spec,) = expand({**TREE, "method": "source"}, "", {"threads": 1}, {}).specs
    jobs = (Job(replace(spec, seed=i), str(i), each) for i, each in enumerate(seconds))
    return SweepPlan(tuple(jobs), 0, 0)


def test_the_order_is_by_time_and_untimed_runs_come_last() -> None:
    plan = timed(3.0, None, 1.0, 2.0, None, 1.0)

    def order(name: str) -> list[str]:
        return [job.key for job in in_order(plan, name).jobs]

    assert order("grid") == ["0", "1", "2", "3", "4", "5"]
    assert order("cheapest") == ["2", "5", "3", "0", "1", "4"]
    assert order("longest") == ["0", "3", "2", "5", "1", "4"]


def test_the_time_is_that_of_the_longest_run_or_of_all_workers() -> None:
    assert seconds_of(timed(3.0, None, 1.0, 2.0).jobs, 1) == (6.0, 1)
    assert seconds_of(timed(3.0, None, 1.0, 2.0).jobs, 4) == (3.0, 1)
    assert seconds_of(timed(None, None).jobs, 4) == (None, 2)
