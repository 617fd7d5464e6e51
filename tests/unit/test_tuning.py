"""``dabench tune``: who is given how many trials, on what; and what a run takes from the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import dabench.cli.sweep
from dabench.board.tables.leaderboard import table
from dabench.cli.main import main
from dabench.config.command import run_command
from dabench.config.conditions import conditions, shared_conditions
from dabench.config.settings import Settings, read_settings
from dabench.config.spec import RunSpec, resolve
from dabench.config.tuned import model_files, network_of
from dabench.engine.run import execute
from dabench.errors import ConfigError, DivergenceError, TrainingError
from dabench.store.identity import run_digest, versions_of
from dabench.store.schema import first_fault
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors import worker
from dabench.sweep.plan import Job
from dabench.sweep.tuned_file import tuned_content, write_tuned
from dabench.sweep.tuning import read_tuning_grid

GRID = """\
protocol: online-tta
dataset: digits
source: handwritten
target: handwritten
seeds: 10-11
threads: 1
device: cpu
blocks:
  - method: [tent, pl]
    method.lr: [1e-4, 1e-3, 1e-2]
"""
TASK = {"protocol": "online-tta", "dataset": "digits", "source": "handwritten"}
TASK |= {"target": "handwritten", "device": "cpu", "threads": 1}
IDS = {"data": "d", "stream": "t", "source": "s"}


def record(spec: RunSpec, score: float | None) -> dict[str, Any]:
    """Return what a run of this spec would leave."""
    parts = {"spec": spec.to_dict(), "versions": {**versions_of(spec), "dabench": "1"}, "ids": IDS}
    row = {"metric": "accuracy", "value": score, "n": 100, "segment": "all", "at": 0}
    return {"run_id": run_digest(*parts.values()), **parts, "cost": {}, "scores": [row]}


def usual_score(spec: RunSpec) -> float:
    """Return an accuracy: the best rate is .001 for tent, .01 for pl."""
    best = {"tent": 1e-3, "pl": 1e-2}[spec.method]
    return 0.5 + 0.1 * (spec.method_options["lr"] == best) + 0.01 * (spec.seed - 10)


class Scripted:
    """An executor whose runs are records with the scores that it is told, or errors."""

    holds_back = frozenset({"data", "source"})

    def __init__(self, results: Path, outcome: Callable[[RunSpec], Any]) -> None:
        self.store, self.slots, self.outcome = Store(results), 1, outcome
        self.jobs: list[Job] = []

    def check(self, jobs: Sequence[Job]) -> None:
        pass

    def takes(self, job: Job) -> bool:
        return True

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Stage | Ended]:
        job = self.jobs[-1]
        found = self.outcome(job.spec)
        if isinstance(found, dict):
            return [Ended(job, 1.0, **found)]
        self.store.write(record(job.spec, found))
        return [Ended(job, 1.0, "0" * 16, value=found)]

    def close(self) -> None:
        pass


class Tune:
    """Calls ``dabench tune`` in a folder of its own."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.home, self.capsys, self.runs = home, capsys, 0
        self.outcome: Callable[[RunSpec], Any] = usual_score
        monkeypatch.chdir(home)
        monkeypatch.setattr(dabench.cli.sweep, "make_executor", self._make)

    def _make(self, settings: Settings, workers: int) -> Scripted:
        def counted(spec: RunSpec) -> Any:
            self.runs += 1
            return self.outcome(spec)

        return Scripted(settings.results, counted)

    def __call__(self, text: str = GRID, *words: str) -> tuple[int, str]:
        (self.home / "mine.yaml").write_text(text)
        code = main(["tune", "mine.yaml", *words])
        caught = self.capsys.readouterr()
        return code, caught.out + caught.err

    @property
    def file(self) -> Path:
        return self.home / "results" / "tuned" / "mine.yaml"


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Tune:
    return Tune(tmp_path, monkeypatch, capsys)


def test_the_best_of_equal_trials_is_chosen_and_all_of_them_are_kept(tune: Tune) -> None:
    code, said = tune()
    assert code == 0
    assert "2 methods with 3 trials each, 12 runs; 0 done, 12 to do" in said
    assert "development: gaussian-blur, saturate, spatter, speckle-noise" in said
    assert "lr at the edge of the grid" in next(x for x in said.splitlines() if x[:3] == "pl ")
    found = yaml.safe_load(tune.file.read_text())
    chosen = {name: (part["options"], part["score"]) for name, part in found["methods"].items()}
    assert chosen == {"tent": ({"lr": 0.001}, 0.605), "pl": ({"lr": 0.01}, 0.605)}
    assert found["trials"] == 3
    assert [p["options"]["lr"] for p in found["methods"]["tent"]["curve"]] == [1e-4, 1e-3, 1e-2]
    assert [task["seed"] for task in found["tasks"]] == [10, 11]
    assert found["tasks"][0]["ids"] == IDS
    assert "--method.lr 0.01" in found["methods"]["pl"]["command"]
    assert found["command"] == "dabench tune mine.yaml"
    # trials stay out of the tables
    assert not list((tune.home / "results" / "records").rglob("*.json"))


def test_no_trial_is_made_twice_and_equal_trials_make_equal_files(tune: Tune) -> None:
    tune()
    first = tune.file.read_bytes()
    tune.file.unlink()
    code, said = tune()
    assert (code, tune.runs) == (0, 12)
    assert "12 done, 0 to do" in said
    assert tune.file.read_bytes() == first
    code, _ = tune(GRID, "--results", "other", "--workers", "2")
    assert (code, tune.runs) == (0, 24)
    assert (tune.home / "other" / "tuned" / "mine.yaml").read_bytes() == first


def test_the_command_in_the_file_makes_this_file_again(tune: Tune) -> None:
    words = ("--name", "second", "--prefetch", "2", "--resume", "--method.steps", "2")
    assert tune(GRID.replace("[tent, pl]", "tent"), *words)[0] == 0
    found = yaml.safe_load(tune.file.with_name("second.yaml").read_text())
    assert found["command"] == "dabench tune mine.yaml --name second --method.steps 2"


def test_trials_that_cannot_go_on_take_no_resume(tune: Tune) -> None:
    text = "protocol: sf-osda\ndataset: digits\ndevice: cpu\nmethod: shot\nprotocol.split: r2\n"
    code, said = tune(text + "method.lr: [1e-3, 1e-2]\n", "--resume")
    assert code == 2
    assert "--resume: only streams go on in the middle, and sf-osda is none; drop it" in said


def test_a_dry_run_writes_nothing(tune: Tune) -> None:
    assert tune(GRID, "--dry-run")[0] == 0
    assert not (tune.home / "results").exists()


def test_a_diverging_trial_is_a_trial_and_a_broken_one_ends_it(tune: Tune) -> None:
    bad = {"error": "pl: logits are not finite", "diverged": True}
    tune.outcome = lambda spec: bad if spec.method_options["lr"] == 1e-2 else usual_score(spec)
    code, said = tune()
    assert code == 0
    assert "1 without a score" in said
    part = yaml.safe_load(tune.file.read_text())["methods"]["pl"]
    assert part["options"] == {"lr": 1e-4}
    assert part["curve"][2]["score"] is None
    assert part["curve"][2]["failed"] == bad["error"]

    tune.file.unlink()
    tune.outcome = lambda spec: {"error": "no data", "diverged": False}
    code, said = tune()
    assert code == 2
    assert "nothing is chosen before all are there" in said
    assert not tune.file.exists()
    tune.outcome = lambda spec: bad if spec.method == "pl" else 0.5
    assert "pl: none of its 3 trials has a score" in tune(GRID.replace("10-11", "12"))[1]
    tune.outcome = lambda spec: bad
    assert "every trial diverged" in tune(GRID.replace("10-11", "13"))[1]


def test_a_trial_that_diverges_when_forced_has_not_its_earlier_score(tune: Tune) -> None:
    tune.outcome = lambda spec: 0.9 if spec.method_options["lr"] == 1e-2 else 0.5
    assert tune()[0] == 0
    bad = {"error": "logits are not finite", "diverged": True}
    tune.outcome = lambda spec: bad if spec.method_options["lr"] == 1e-2 else 0.5
    code, said = tune(GRID, "--force")
    assert code == 0, said
    for part in yaml.safe_load(tune.file.read_text())["methods"].values():
        assert part["options"] == {"lr": 1e-4}
        assert part["curve"][2]["scores"] == part["curve"][2]["runs"] == [None, None]
        assert part["curve"][2]["failed"] == bad["error"]


def test_trials_on_other_data_do_not_count(tune: Tune) -> None:
    tune()
    store = Store(tune.home / "results" / "tuned" / "trials")
    path, found = next(iter(store.all()))
    ids = {**IDS, "data": "other"}
    path.unlink()
    parts = {k: found[k] for k in ("spec", "versions")}
    store.write({**found, "ids": ids, "run_id": run_digest(*parts.values(), ids)})
    code, said = tune()
    assert code == 2
    assert "the trials ran on different data or models" in said


BLOCK = "  - method: [tent, pl]\n    method.lr: [1e-4, 1e-3, 1e-2]\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[tent, pl]\n", "[tent, pl]\n    method.rho: 1\n  - method: rpl\n", "tent 1, pl 1, rpl 3"),
        (BLOCK, BLOCK + "    seeds: 10\n  - method: tent\n", "tent lr=0.0001 runs on 1 of 2 tasks"),
        ("  - method", "  - backbone: [small-cnn, resnet20]\n    method", "one network; split"),
        ("dataset: digits\n", "", "dataset: expected one name at the top"),
        ("online-tta", "[online-tta, continual-tta]", "protocol: expected one name at the top"),
        ("seeds:", "shifts: [c-spatter:1, fog:2]\nseeds:", "would tune on fog, which is reported"),
        ("seeds:", "shifts: {a: b}\nseeds:", "names such as c-extra"),
        ("seeds:", "shifts: c-spattar:5\nseeds:", "did you mean 'c-spatter'"),
        (
            "seeds:",
            "shifts: fog:1\nprotocol.shifts: c-spatter:1\nseeds:",
            "shifts and protocol.shifts say the same thing; leave one of them out",
        ),
        (
            "blocks:\n",
            "shifts: fog:1\nblocks:\n  - protocol.shifts: rain:1\n",
            "shifts and protocol",
        ),
        (
            "threads: 1\n",
            "resources: {pl: {cpus: 3}}\n",
            "its trials run with 1, 3 threads, which decide numbers; give 'threads: N'",
        ),
        ("seeds:", "reported: none-there.yaml\nseeds:", "cannot be read"),
        ("seeds:", "reported: [a]\nseeds:", "expected a grid's file"),
    ],
)
def test_an_unfair_grid_is_refused_in_one_line(tune: Tune, old: str, new: str, said: str) -> None:
    code, told = tune(GRID.replace(old, new, 1), "--workers", "1024")
    assert code == 2
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not (tune.home / "results").exists()


def test_a_grid_names_what_it_is_for(tune: Tune) -> None:
    later = GRID.replace("    method.lr: [1e-4, 1e-3, 1e-2]", "    tuned: not-yet.yaml")
    (tune.home / "later.yaml").write_text(later.replace("seeds", "protocol.shifts: rain:5\nseeds"))
    text = GRID.replace("seeds", "shifts: fog:3\nreported: later.yaml\nseeds")
    code, said = tune(text)
    assert code == 2
    assert "seed 10 is that of a run in later.yaml, too" in said
    text = text.replace("seeds: 10-11", "seeds: 12-13")
    (tune.home / "mine.yaml").write_text(text)
    found = read_tuning_grid(tune.home / "mine.yaml", {}, {})
    assert (found.development, found.reported) == ({"fog"}, {"rain"})
    code, said = tune(text.replace("fog:3", "[fog:3, c-spatter:1, rain:1]"))
    assert code == 2
    assert "would tune on rain" in said


def test_published_sets_are_tuned_on_their_extra_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "protocol: continual-tta\ndataset: cifar10-c\ndevice: cpu\nmethod: tent\n"
        "source-model: resnet20\nsource-checkpoint: r.th\nmethod.lr: [1e-4, 1e-3]\n"
    )
    found = read_tuning_grid(path, {}, {})
    assert found.spec.protocol_options["shifts"].count("published-") == 4
    assert found.development.isdisjoint(found.reported)
    assert len(found.reported) == 15


def test_offline_protocols_are_tuned_on_other_tasks(tmp_path: Path) -> None:
    text = (
        "protocol: sf-osda\ndataset: digits\ndevice: cpu\nmethod: shot\nmethod.lr: [1e-3, 1e-2]\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="tune on print to handwritten split default, which is"):
        read_tuning_grid(path, {}, {})
    path.write_text(text + "protocol.split: r2\n")
    assert read_tuning_grid(path, {}, {}).development == {"print to handwritten split r2"}
    # written out it may be the reported one in other words
    path.write_text(text + "protocol.known: 0,1,2,3,4,5\nprotocol.unknown: 6,7,8,9\n")
    with pytest.raises(ConfigError, match=r"tune on print to handwritten split 0,1,2.*reported"):
        read_tuning_grid(path, {}, {})
    path.write_text(text + "shifts: c-extra\n")
    with pytest.raises(ConfigError, match="sf-osda has no stream; name development tasks"):
        read_tuning_grid(path, {}, {})


def test_a_task_that_is_reported_is_refused_where_its_protocol_has_optional_splits(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "protocol: bb-uda\ndataset: digits\ndevice: cpu\nmethod: kd\nmethod.lr: [1e-3, 1e-2]\n"
    )
    with pytest.raises(ConfigError, match="tune on print to handwritten, which is"):
        read_tuning_grid(path, {}, {})


def test_statistics_of_the_source_are_no_weights(tmp_path: Path) -> None:
    grid = tmp_path / "mine.yaml"
    grid.write_text(GRID)
    found = read_tuning_grid(grid, {}, {})
    records = [record(spec, usual_score(spec)) for spec in found.grid.specs]
    for one in records:  # as a method leaves it that is granted them
        one["ids"] = one["ids"] | {"statistics": "x", "source_checkpoint": "y"}
    content = tuned_content(found, records, {}, "dabench tune mine.yaml")
    assert content["files"] == {"source_checkpoint": "y"}


def test_another_setting_does_not_take_the_files_place(tune: Tune) -> None:
    tune()
    other = GRID.replace("seeds", "backbone: resnet20\nseeds")
    code, said = tune(other)
    assert code == 2
    assert "give another --name" in said
    assert tune(other, "--name", "resnet20")[0] == 0
    assert tune.file.with_name("resnet20.yaml").is_file()
    assert "expected a word" in tune(other, "--name", "../x")[1]


# -- a run with the file ------------------------------------------------------------------------


@pytest.fixture
def tuned(tmp_path: Path) -> str:
    grid, file = tmp_path / "mine.yaml", tmp_path / "results" / "tuned" / "mine.yaml"
    grid.write_text(GRID)
    found = read_tuning_grid(grid, {}, {})
    records = [record(spec, usual_score(spec)) for spec in found.grid.specs]
    write_tuned(file, tuned_content(found, records, {}, "dabench tune mine.yaml"))
    return str(file)


def test_a_tuned_run_is_the_run_with_the_options_given_by_hand(tuned: str) -> None:
    (found,) = resolve({**TASK, "method": "tent", "tuned": tuned, "seed": 0})
    (by_hand,) = resolve({**TASK, "method": "tent", "method.lr": "1e-3", "seed": 0})
    assert found.to_dict() == by_hand.to_dict()
    assert found.tuned is not None
    assert found.tuned.whole
    assert not found.tuned.notes
    words = run_command(found).split()
    assert words[words.index("--tuned") + 1] == tuned
    (later,) = resolve({**TASK, "protocol": "continual-tta", "method": "tent", "tuned": tuned})
    assert later.tuned is not None
    assert later.tuned.whole
    (pl,) = resolve({**TASK, "method": "pl", "tuned": tuned})
    assert pl.method_options["lr"] == 1e-2
    assert f"--tuned {tuned} --method.lr 0.01" in run_command(pl)


def test_an_option_by_hand_wins_and_is_said(tuned: str, tmp_path: Path, capsys: Any) -> None:
    given = {**TASK, "method": "tent", "tuned": tuned}
    (found,) = resolve({**given, "method.lr": "5e-4"})
    assert found.method_options["lr"] == 5e-4
    assert found.tuned is not None
    (note,) = found.tuned.notes
    assert "--method.lr 0.0005 is given by hand" in note
    assert "says 0.001" in note
    assert found.tuned.mark() == {}
    (other,) = resolve({**given, "method.steps": "2"})
    assert other.tuned is not None
    assert not other.tuned.whole
    (same,) = resolve({**given, "method.lr": "0.001"})
    assert same.tuned is not None
    assert same.tuned.whole
    text = GRID.partition("blocks")[0] + f"tuned: {tuned}\nmethod: tent\nmethod.lr: [1e-3, 1e-2]\n"
    (tmp_path / "later.yaml").write_text(text)
    words = ["sweep", str(tmp_path / "later.yaml"), "--dry-run", "--results", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert said.count("note:") == 1
    assert "0.01 is given by hand" in said


def test_a_sweep_says_which_records_were_made_by_hand(
    tuned: str, tmp_path: Path, capsys: Any
) -> None:
    (spec,) = resolve({**TASK, "method": "tent", "tuned": tuned})
    Store(tmp_path / "mine").write(record(spec, 0.5))
    text = GRID.partition("seeds")[0] + f"threads: 1\ndevice: cpu\ntuned: {tuned}\nmethod: tent\n"
    (tmp_path / "later.yaml").write_text(text)
    assert main(["sweep", str(tmp_path / "later.yaml"), "--results", str(tmp_path / "mine")]) == 0
    said = capsys.readouterr().out
    assert "1 have a record, 0 to do" in said
    assert "note: 1 of the records were made with these options given by hand" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "lame"}, "it has no options of lame, but of pl, tent"),
        ({"protocol.shifts": "rain:5,published-spatter:1"}, "were chosen on spatter"),
        ({"backbone": "resnet20"}, "chosen with backbone small-cnn, and this run has resnet20"),
        ({"freeze": 2}, "chosen with freeze as it comes, and this run has 2"),
        ({"dataset": "overhead", "source": None, "target": None}, "chosen on digits, and this"),
        ({"tuned": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tuned: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match="--tuned") as caught:
        resolve({**TASK, "method": "tent", "tuned": tuned, **given})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: '1'", "version: '0'", "chosen for version 0 of"),
        ("dataset: digits", "dataset: [digits]", "dataset: input should be a valid string"),
        ("schema: 1", "schema: 2", "schema '2', and this dabench reads 1; update dabench"),
        ("methods:", "method:", "methods: field required"),
    ],
)
def test_an_edited_file_is_one_line(tuned: str, old: str, new: str, said: str) -> None:
    path = Path(tuned)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match="--tuned") as caught:
        resolve({**TASK, "method": "tent", "tuned": tuned})
    assert said in str(caught.value)
    path.write_text("")
    with pytest.raises(ConfigError, match="a file that 'dabench tune' wrote"):
        resolve({**TASK, "method": "tent", "tuned": tuned})


def test_other_weights_than_those_of_the_trials_are_refused(tuned: str) -> None:
    path = Path(tuned)
    path.write_text(path.read_text().replace("files: {}", "files: {weights: abc}"))
    (found,) = resolve({**TASK, "method": "tent", "tuned": tuned, "weights": "mine.pth"})
    assert found.tuned is not None
    found.tuned.check_files({"weights": "abc"})
    with pytest.raises(ConfigError, match="chosen for other weights"):
        found.tuned.check_files({"weights": "abd"})


def test_the_same_task_in_another_spelling_is_refused(tmp_path: Path, fill_classes: Any) -> None:
    """``A`` is ``a`` once the data set has said how it spells its domains."""
    for seed, domain in enumerate("ab"):
        fill_classes(tmp_path / "data" / domain, seed)
    given = {"method": "shot", "dataset": "image-folder", "source": "A", "target": "b"}
    given |= {"protocol": "sf-uda", "image-size": 32, "device": "cpu", "threads": 1}
    given |= {"data-root": str(tmp_path / "data"), "results": str(tmp_path / "results")}
    given |= {"backbone": "small-cnn", "weights": "none", "cache-dir": str(tmp_path / "cache")}
    (spec,) = resolve(given)
    version = versions_of(spec)["method"]
    content = {"schema": "1", "protocol": "sf-uda", "dataset": "image-folder", "files": {}}
    content |= {"network": network_of(spec.to_dict(), {}), "development": ["a to b"]}
    content |= {"methods": {"shot": {"version": version, "options": {}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    (spec,) = resolve({**given, "tuned": str(tmp_path / "mine.yaml")})
    with pytest.raises(ConfigError, match=r"mine\.yaml: the options were chosen on a to b, which"):
        execute(spec, read_settings(given))
    assert not (tmp_path / "cache" / "sources").exists()  # before anything is trained


def test_another_network_of_the_same_name_is_refused(tuned: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): ...\n")
    own = {"source-model": f"{tmp_path}/net.py:build", "source-epochs": None}
    (spec,) = resolve({**TASK, **own, "method": "tent"})
    files = model_files(spec.plugins)
    assert files == {"source_model": spec.plugins[-1].sha256}
    path = Path(tuned)
    text = path.read_text().replace("files: {}", f"files: {files}")
    network = text[text.index("network:") : text.index("files:")]
    said = "network: {backbone: net.py:build, weights: trained, source_model: net.py:build}\n"
    path.write_text(text.replace(network, said))
    (found,) = resolve({**TASK, **own, "method": "tent", "tuned": tuned})
    assert found.tuned is not None
    found.tuned.check_files(files)
    with pytest.raises(ConfigError, match=r"chosen for other weights .--source-model"):
        found.tuned.check_files({"source_model": "another"})


def test_tables_say_what_is_tuned(tuned: str) -> None:
    records = []
    for seed in range(3):
        (spec,) = resolve({**TASK, "method": "tent", "tuned": tuned, "seed": seed})
        assert spec.tuned is not None
        records.append(record(spec, 0.5) | spec.tuned.mark())
        (plain,) = resolve({**TASK, "method": "source", "seed": seed})
        records.append(record(plain, 0.4))
    assert first_fault(json.loads(json.dumps(records[0]))) == ""
    assert "its tuned is" in first_fault({**records[0], "tuned": "yes"})
    frame = table(records)
    remarks = dict(zip(frame["method"], frame["remark"], strict=True))
    digest = records[0]["tuned"]["sha256"]
    assert remarks == {"tent": f"tuned (mine.yaml {digest[:8]})", "source": ""}
    del records[0]["tuned"]
    frame = table(records)
    assert f"tuned (mine.yaml {digest[:8]}, 2 of 3 runs)" in set(frame["remark"])


def test_a_split_that_is_written_out_counts_as_each_of_its_pair() -> None:
    dev = ["a to b split default", "c to d split r1", "e to f"]
    assert shared_conditions(["a to b split r2", "c to d split default"], dev) == []
    assert shared_conditions(["a to b split default", "e to f"], dev) == [dev[0], dev[2]]
    assert shared_conditions(["a to b split x,y:z"], dev) == ["a to b split x,y:z"]
    assert shared_conditions(["c to d split r3"], ["c to d split x:y"]) == ["c to d split r3"]
    assert shared_conditions(["g to h split x:y"], dev) == []


def test_what_a_run_shows_has_one_name_however_it_is_made() -> None:
    def shown(**options: Any) -> frozenset[str]:
        return conditions({"source": "a", "target": "b,c", "protocol_options": options})

    assert shown(shifts="c-fog:5, published-fog:1,fog+rain:2") == {"fog", "rain"}
    assert shown(shifts="clear,rain:1") == {"clear b", "clear c", "rain"}
    assert shown(weather="aid-cc") == shown(weather="ucm-cc")
    assert shown(shifts="albu-snow:3") == shown(weather="aid-sf") == shown(weather="snow")
    assert shown(weather="c-spatter") == {"spatter"}  # "c-" is no part of other names
    assert shown(weather="contrast") == {"contrast"}
    assert shown(conditions="fog:1", frames="source-val") == {"validation frames of a"}
    assert shown(held_out=0.3) == {"a to b,c"}


@pytest.mark.parametrize(
    ("error", "diverged"),
    [(DivergenceError, True), (TrainingError, False), (ValueError, False)],
)
def test_what_is_not_finite_has_diverged_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], diverged: bool
) -> None:
    """A method that is refused for what it did has no score that could be low."""

    def run(*_: Any) -> None:
        raise error("told")

    monkeypatch.setattr(worker, "resolve_name", lambda name: run)
    (spec,) = resolve({"method": "tent", "protocol": "online-tta", "device": "cpu"})
    ended = worker.attempt("a:b", spec, read_settings({}), lambda *_: None)
    assert (ended["diverged"], "told" in ended["error"]) == (diverged, True)
