"""Runs on a real Ray cluster: two nodes of this machine, with one core each."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import BAD, FUNCTION, KILLED, WAITS, Silent, execute, jobs_of

import dabench
import dabench.cli.engines
from dabench.cli.main import main
from dabench.config.settings import Settings
from dabench.errors import ConfigError
from dabench.store.store import Store
from dabench.sweep.executor import Ended
from dabench.sweep.executors import node
from dabench.sweep.executors.shelf import keep_results
from dabench.sweep.loop import Tally, run_jobs
from dabench.sweep.resources import Resources

HERE = Path(__file__).parents[1]
WORDS = ("sweep", "--methods", "source", "--protocols", "sf-osda")


def test_without_ray_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dabench.cli.engines.importlib.util, "find_spec", lambda name: None)
    assert main([*WORDS, "--executor", "ray"]) == 2
    assert "pip install 'dabench[ray]'" in capsys.readouterr().err


def test_what_data_sets_keep_is_made_once_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def attempt(function: str, spec: Any, settings: Settings, tell: Any) -> dict[str, Any]:
        for name in ("images", "frames", "links", "digests", "arrays", "answers", "sources"):
            if not (settings.cache_dir / name / "key").exists():
                (settings.cache_dir / name / "key").mkdir(parents=True)
                built.append(name)
        return {}

    monkeypatch.setattr(node, "attempt", attempt)
    settings = Settings(tmp_path / "results", None, tmp_path / "cache")
    (job,) = jobs_of("0", settings.results)
    for _ in range(2):
        node.run_on_node(FUNCTION, job.spec, settings, {})
    assert len(built) == 8
    assert built[-1] == "sources"  # they come from the driver


def test_a_record_from_a_node_takes_the_model_of_an_earlier_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNS", str(tmp_path))
    driver, there = (
        Settings(tmp_path / name, None, tmp_path / "cache") for name in ("driver", "node")
    )
    (job,) = jobs_of("0", driver.results)
    run_id = execute(job.spec, there, lambda stage, identity: None).run_id
    made, place = node.read_files(there.results), f"runs/{run_id}/model"
    new = {f"{place}/model.yaml": b"new"}
    failed = {f"records/sf-osda/digits/{run_id}.failed.json": b"{}"}
    store, other = Store(driver.results), driver.results / "runs" / "other" / "model"
    for folder in (driver.results / place, other):
        folder.mkdir(parents=True)
        (folder / "model.onnx").touch()
    keep_results(store, node.Made({}, failed, {}))
    assert (driver.results / place / "model.onnx").exists()  # its record is still there
    keep_results(store, node.Made({}, made | new, {}))
    assert [path.name for path in (driver.results / place).iterdir()] == ["model.yaml"]
    keep_results(store, node.Made({}, made, {}))
    assert not (driver.results / place).exists()
    assert (other / "model.onnx").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is missing: pip install 'dabench[ray]' brings it")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), str(HERE)]))
        patch.setenv("FAKE_RUNS", str(home))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        small = {"object_store_memory": 80 * 2**20}
        head = {"num_cpus": 0, "include_dashboard": False, **small}
        found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                found.add_node(num_cpus=1, **small)
            yield found
        finally:
            found.shutdown()


@pytest.fixture
def executor_of(cluster: Any, home: Path) -> Iterator[Any]:
    from dabench.sweep.executors import ray

    for path in (*home.glob("seen-*"), *home.glob("go")):
        path.unlink()
    made = []

    def make(results: Path, **request: Any) -> Any:
        results.mkdir(exist_ok=True)
        settings = Settings(results, None, home / "cache")
        made.append(ray.RayExecutor(settings, ray.Request(cluster.address, **request), FUNCTION))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_records_travel_to_the_driver_and_a_crash_costs_one_run(
    executor_of: Any, home: Path
) -> None:
    results, tally = home / "first", Tally()
    executor = executor_of(results)
    assert executor.slots == 2
    jobs = jobs_of(f"0-2,{BAD},{KILLED}", results)
    run_jobs(jobs, executor, Store(results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [0, 1, 2]
    failed = {end.job.spec.seed: end for end in tally.failed}
    assert failed[BAD].error == f"loss is nan (on node {socket.gethostname()})"
    assert not failed[BAD].bug
    assert failed[KILLED].killed
    assert "WorkerCrashedError" in str(failed[KILLED].error)
    assert sorted(record["spec"]["seed"] for _, record in Store(results).all()) == [0, 1, 2]
    assert len(Store(results).failed()) == 2
    assert {job.spec.seed for job in jobs_of(f"0-2,{BAD},{KILLED}", results)} == {BAD, KILLED}


@pytest.mark.slow
def test_a_method_gets_what_it_asks_for_or_is_refused_by_name(executor_of: Any, home: Path) -> None:
    results, tally = home / "own", Tally()
    executor = executor_of(results)
    first, second, third = jobs_of("0-2", results)
    more = [(Resources(gpus=1.0), "1 CPUs and 1 GPUs"), (Resources(2), "2 CPUs")]
    more.append((Resources(memory=10**15), "1 CPUs and 1e.06 GB"))
    for asked, words in more:
        with pytest.raises(ConfigError, match=f"no node has {words} for a run of 'source'"):
            executor.check([first, replace(second, resources=asked)])
    own = replace(second, resources=Resources(memory=50 * 10**6))
    executor.check([first, own])
    executor.submit(own)
    executor.submit(third)
    assert [executor.takes(job) for job in (first, own)] == [True, True]  # two nodes, two kinds
    until(lambda: not executor._tasks or executor.wait(1) is None)
    run_jobs([first, own], executor, Store(results), Silent(), tally)
    assert sorted(end.job.spec.seed for end in tally.done) == [0, 1]


@pytest.mark.slow
def test_what_is_cancelled_is_gone(executor_of: Any, home: Path) -> None:
    results = home / "second"
    executor = executor_of(results)
    executor.submit(jobs_of(str(WAITS), results)[0])
    until(lambda: list(home.glob("seen-9-*")))
    executor.close()
    executor.close()
    (seen,) = home.glob("seen-9-*")
    until(lambda: not Path(f"/proc/{seen.name.rpartition('-')[2]}").exists())
    assert not list(Store(results).all())


@pytest.mark.slow
def test_a_run_whose_node_is_lost_begins_again(executor_of: Any, cluster: Any, home: Path) -> None:
    results, events = home / "third", list[Any]()
    executor = executor_of(results)
    (job,) = jobs_of(str(WAITS), results)
    executor.submit(job)
    until(lambda: [path for path in home.glob("seen-9-*") if path.read_text()])
    (seen,) = home.glob("seen-9-*")
    lost = next(n for n in cluster.list_all_nodes() if n.node_id == seen.read_text())
    cluster.remove_node(lost, allow_graceful=False)
    try:
        (home / "go").touch()
        until(lambda: events.extend(executor.wait(1)) or any(isinstance(e, Ended) for e in events))
    finally:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    assert events[-1].error is None
    assert {path.read_text() for path in home.glob("seen-9-*")} > {seen.read_text()}


@pytest.mark.slow
def test_a_node_of_another_version_is_refused_by_name(
    executor_of: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dabench.__version__
    monkeypatch.setattr(dabench, "__version__", "9.9.9")
    with pytest.raises(ConfigError, match=f"node {socket.gethostname()}.* has dabench {here}"):
        executor_of(home / "fourth")


@pytest.mark.slow
def test_a_node_lost_between_the_list_and_the_question_is_no_ones_fault(
    executor_of: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dabench.sweep.executors import ray_cluster

    executor_of(home / "lost")  # connects
    listed = ray_cluster.nodes
    ghost = {"NodeID": "ab" * 28, "NodeManagerHostname": "ghost", "NodeName": "192.0.2.9"}
    monkeypatch.setattr(ray_cluster, "nodes", lambda: [ghost, *listed()])
    ray_cluster.check_versions()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--address", "nowhere"), "--address nowhere: expected auto or HOST:PORT"),
        (("--address", "127.0.0.1:1"), "no Ray cluster answers there"),
        (("--gpus-per-run", "1.5"), "--gpus-per-run '1.5': expected"),
        (("--chunk", "2"), "--chunk is for --executor slurm"),
        (("--gpus-per-run", "1"), "no node has 1 CPUs and 1 GPUs"),
        (("--cpus-per-run", "2"), "no node has 2 CPUs for a run"),
    ],
)
def test_bad_words(
    words: tuple[str, ...],
    message: str,
    cluster: Any,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = () if "--address" in words else ("--address", cluster.address)
    results = ("--results", str(home / "fifth"))
    assert main([*WORDS, "--executor", "ray", *address, *words, *results]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_is_that_of_the_processes_here_and_the_source_model_is_trained_once(
    cluster: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dabench.sweep.executors.handouts import Handouts
    from dabench.sweep.executors.shelf import Shelf

    added, held = list[int](), list[int]()
    add, over = Shelf.add, Handouts.over

    def spy(shelf: Shelf, job: Any, files: Any) -> None:
        added.append(len(files))
        add(shelf, job, files)

    def count(handouts: Handouts, job: Any) -> None:
        over(handouts, job)
        held.append(len(handouts))

    monkeypatch.setattr(Shelf, "add", spy)
    monkeypatch.setattr(Handouts, "over", count)
    words = ["sweep", "--methods", "source,shot,usd", "--protocols", "sf-osda", "--epochs", "1"]
    words += ["--source-epochs", "1", "--threads", "1", "--device", "cpu"]
    there, here = home / "there", home / "here"
    ray = ["--executor", "ray", "--address", cluster.address]
    assert main([*words, *ray, "--results", str(there), "--cache-dir", str(home / "a")]) == 0
    assert sorted(added) == [0, 0, 1]
    assert held == [1, 1, 0]  # no object is left when the last run is over
    assert main([*words, "--results", str(here), "--cache-dir", str(home / "b")]) == 0
    tables = []
    for folder in (here, there):
        store = Store(folder)
        records = [record for _, record in store.all()]
        assert store.problems == []
        tables.append({r["run_id"]: (r["scores"], r["curves"]) for r in records})
        assert all((folder / "runs" / r["run_id"]).is_dir() for r in records)
    assert len(tables[0]) == 3
    assert tables[0] == tables[1]
