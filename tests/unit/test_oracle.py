"""The oracle's client: forms of answers, counting, budget, cache, retries, useless answers."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dabench.contract.access import Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.types import Task
from dabench.errors import AccessError, CacheError, ConfigError, OracleError
from dabench.oracle.answer_forms import BATCH_SIZE, AnswerForm, OracleInfo, Unreachable
from dabench.oracle.client import OracleClient
from dabench.oracle.in_process import InProcess
from dabench.source_models.loading import SourceModel

CLASSES = ("a", "b", "c", "d")
TASK = Task("classification", CLASSES, 8)
INFO = OracleInfo("model1", CLASSES, 8, "soft", True, 0.9, 1.0)


class Fake:
    """Answers by the first byte of a picture; remembers what it was asked."""

    def __init__(self, info: OracleInfo = INFO, fails: int = 0, after: int = 10**9) -> None:
        self.info = info
        self.asked: list[int] = []
        self.restarts = 0
        self.fails, self.after = fails, after

    def answer(self, images: np.ndarray) -> np.ndarray:
        assert 1 <= len(images) <= BATCH_SIZE
        assert images.dtype == np.uint8
        if self.fails and len(self.asked) >= self.after:
            self.fails -= 1
            raise Unreachable("the line is dead")
        self.asked += [int(image[0, 0, 0]) for image in images]
        return np.stack([self.row(image) for image in images])

    @staticmethod
    def row(image: np.ndarray) -> np.ndarray:
        values = np.arange(1, 5, dtype=np.float32) + int(image[0, 0, 0])
        return np.asarray(values / values.sum(), dtype=np.float32)

    def restart(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        pass


def pictures(*firsts: int) -> np.ndarray:
    made = np.zeros((len(firsts), 8, 8, 3), dtype=np.uint8)
    made[:, 0, 0, 0] = firsts
    return made


def tensor(*firsts: int) -> torch.Tensor:
    return torch.from_numpy(pictures(*firsts)).permute(0, 3, 1, 2) / 255


def target(*firsts: int) -> Unlabelled:
    return Unlabelled(pictures(*firsts), np.arange(len(firsts)))


def client(
    fake: Any, cache: Path | None = None, budget: int | None = None, cost: Cost | None = None
) -> OracleClient:
    return OracleClient(fake, TASK, cost or Cost(), budget, cache, attempts=3, pause=0)


# --- forms


P = np.array([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]], dtype=np.float32)


@pytest.mark.parametrize(
    ("form", "name", "expected"),
    [
        (AnswerForm("soft"), "soft", P),
        (AnswerForm("hard"), "hard", [[1, 0, 0, 0], [1, 0, 0, 0]]),
        (AnswerForm("top-k", 1), "top-1", [[0.5, 0.5 / 3, 0.5 / 3, 0.5 / 3], [0.25] * 4]),
        (AnswerForm("top-k", 2), "top-2", [[0.5, 0.3, 0.1, 0.1], [0.25] * 4]),
        (AnswerForm("top-k", 9), "top-9", P),
        # in float32, 0.15 and 0.05 lie a little above the half, and 0.25 is one (half to even)
        (AnswerForm("rounded", decimals=1), "rounded-1", [[0.5, 0.3, 0.2, 0.1], [0.2] * 4]),
        (AnswerForm("rounded", decimals=0), "rounded-0", [[0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_forms(form: AnswerForm, name: str, expected: Any) -> None:
    rows = np.array(expected, dtype=np.float64)
    empty = rows.sum(axis=1) == 0
    rows[empty] = 1
    rows /= rows.sum(axis=1, keepdims=True)
    found = form.apply(P)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows, atol=1e-7)
    assert form.name == name
    assert form.gives_probabilities == (form.kind != "hard")


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "loud"}, {"kind": "top-k", "top_k": 0}, {"kind": "rounded", "decimals": -1}],
)
def test_nonsense_forms(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        AnswerForm(**wrong)


# --- the answerer in this process


@pytest.fixture(scope="module")
def in_process(bench: Callable[[str], Any]) -> InProcess:
    made = bench("sf-uda")
    model = SourceModel(made.network, "digits", 0.9, 1.0)
    return InProcess(model, made.plan.task.classes, 32, AnswerForm("soft"), "cpu")


def test_an_answer_does_not_depend_on_its_neighbours(in_process: InProcess) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    whole = in_process.answer(images)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    order = rng.permutation(BATCH_SIZE)
    assert (in_process.answer(images[order]) == whole[order]).all()
    assert (in_process.answer(images[:7]) == whole[:7]).all()
    alone = np.concatenate([in_process.answer(images[i : i + 1]) for i in range(0, BATCH_SIZE, 9)])
    assert (alone == whole[::9]).all()


def test_too_many_at_once(in_process: InProcess) -> None:
    with pytest.raises(OracleError, match="65 pictures"):
        in_process.answer(np.zeros((65, 32, 32, 3), dtype=np.uint8))


def test_the_source_network_stays_as_it_was(bench: Callable[[str], Any]) -> None:
    network = bench("sf-uda").network
    before = network.cost.forward
    model = SourceModel(network, "digits", 0.9, 1.0)
    answerer = InProcess(model, tuple("0123456789"), 32, AnswerForm("hard"), "cpu")
    found = answerer.answer(np.zeros((3, 32, 32, 3), dtype=np.uint8))
    assert sorted(np.unique(found)) == [0, 1]
    assert not answerer.info.gives_probabilities
    assert answerer.info.form == "hard"
    assert not network.training
    assert network.cost.forward == before


# --- asking


def test_answers_in_order_and_by_8_bits() -> None:
    fake = Fake()
    asked = tensor(3, 1, 3, 2)
    found = client(fake).ask(asked + 0.4 / 255 * (asked > 0))
    assert found.shape == (4, 4)
    assert found.dtype == torch.float32
    expected = np.stack([Fake.row(p) for p in pictures(3, 1, 3, 2)])
    assert (found.numpy() == expected).all()
    assert fake.asked == [3, 1, 2]


def test_a_whole_set_goes_in_chunks_and_in_order() -> None:
    fake = Fake()
    cost = Cost()
    oracle = client(fake, cost=cost)
    values = [*range(100), *range(50), *range(100, 150)]
    found = oracle.ask_all(target(*values))
    assert fake.asked == list(range(150))
    assert cost.queries == 150
    expected = np.stack([Fake.row(p) for p in pictures(*values)])
    assert (found.numpy() == expected).all()
    assert oracle.gives_probabilities


def test_nothing_asked_nothing_answered() -> None:
    assert client(Fake()).ask(tensor()).shape == (0, 4)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 9, 8), r"\(2, 3, 9, 8\); expected \(B, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"expected \(B, 3, 8, 8\)"),
        (torch.full((1, 3, 8, 8), 1.5), r"outside \[0, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), r"outside \[0, 1\]"),
    ],
)
def test_what_is_no_picture(images: torch.Tensor, words: str) -> None:
    fake = Fake()
    with pytest.raises(OracleError, match=words):
        client(fake).ask(images)
    assert fake.asked == []


# --- cache and counting


def test_a_second_client_asks_nothing_and_counts_the_same(tmp_path: Path) -> None:
    first, second = Cost(), Cost()
    answers = client(Fake(), tmp_path, cost=first).ask_all(target(*range(100)))
    fake = Fake()
    again = client(fake, tmp_path, cost=second).ask_all(target(*range(100)))
    assert fake.asked == []
    assert first.queries == second.queries == 100
    assert torch.equal(answers, again)
    assert (tmp_path / "answers" / "model1-soft.sqlite3").is_file()


def test_a_picture_counts_once_a_run(tmp_path: Path) -> None:
    cost = Cost()
    oracle = client(Fake(), tmp_path, cost=cost)
    for _ in range(2):
        oracle.ask(tensor(1, 2))
        oracle.ask_all(target(2, 3))
    assert cost.queries == 3


def test_other_forms_are_kept_apart(tmp_path: Path) -> None:
    client(Fake(), tmp_path).ask(tensor(1))
    hard = Fake(dataclasses.replace(INFO, form="hard", gives_probabilities=False))
    client(hard, tmp_path).ask(tensor(1))
    assert hard.asked == [1]


def test_scoring_does_not_count() -> None:
    cost = Cost()
    oracle = client(Fake(), budget=1, cost=cost)
    with cost.pause():
        oracle.ask_all(target(*range(9)))
    assert cost.queries == 0
    oracle.ask(tensor(0))  # answered before, but asked by the run for the first time
    assert cost.queries == 1


def test_two_clients_at_once(tmp_path: Path) -> None:
    one, two = Fake(), Fake()
    first, second = client(one, tmp_path), client(two, tmp_path)
    first.ask(tensor(1, 2))
    second.ask(tensor(2, 3))
    first.ask(tensor(3))
    assert (one.asked, two.asked) == ([1, 2], [3])
    first.close()
    second.close()


def test_resume_asks_only_the_rest(tmp_path: Path) -> None:
    broken = Fake(fails=99, after=128)
    with pytest.raises(OracleError) as caught:
        client(broken, tmp_path).ask_all(target(*range(200)))
    text = str(caught.value)
    path = tmp_path / "answers" / "model1-soft.sqlite3"
    assert "did not answer after 3 tries (the line is dead)" in text
    assert f"128 of 200 answers are kept in {path}; run the same command again" in text
    assert not isinstance(caught.value, Unreachable)
    assert broken.restarts == 2
    fake, cost = Fake(), Cost()
    found = client(fake, tmp_path, cost=cost).ask_all(target(*range(200)))
    assert fake.asked == list(range(128, 200))
    assert cost.queries == 200
    assert torch.equal(found, client(Fake()).ask_all(target(*range(200))))


def stored(cache: Path) -> Path:
    return cache / "answers" / "model1-soft.sqlite3"


def execute(path: Path, command: str, *values: Any) -> None:
    """Change a file of answers behind the back of dabench."""
    other = sqlite3.connect(path)
    other.execute(command, values)
    other.commit()
    other.close()


@pytest.mark.parametrize(
    "garbage", [b"this is no database" * 100, b"SQLite format 3\0" + b"x" * 99]
)
def test_a_damaged_file_is_named_and_asked_anew(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = stored(tmp_path)
    path.parent.mkdir()
    path.write_bytes(garbage)
    fake = Fake()
    oracle = client(fake, tmp_path)
    assert torch.equal(oracle.ask(tensor(1, 2)), client(Fake()).ask(tensor(1, 2)))
    assert fake.asked == [1, 2]
    assert f"stored answers {path} are damaged (file is not a database)" in caplog.text
    assert Path(f"{path}.damaged").read_bytes() == garbage
    again = Fake()
    client(again, tmp_path).ask(tensor(1, 2))
    assert again.asked == []


def test_a_file_that_is_damaged_inside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = client(Fake(), tmp_path)
    expected = first.ask_all(target(*range(200)))
    first.close()
    path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    fake = Fake()
    assert torch.equal(client(fake, tmp_path).ask_all(target(*range(200))), expected)
    assert fake.asked == list(range(200))
    assert "are damaged (database disk image is malformed) and were set aside" in caplog.text


NAN = np.array([np.nan, 0.5, 0.25, 0.25], dtype="<f4").tobytes()
EVEN = np.full(4, 0.25, dtype="<f4").tobytes()
TWO = np.full(4, 0.5, dtype="<f4").tobytes()


@pytest.mark.parametrize("answer", [NAN, TWO, EVEN + b"1234", EVEN[:-4], b"\0", b"", "text", 7])
def test_a_damaged_answer_is_asked_anew(
    tmp_path: Path, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    first = client(Fake(), tmp_path)
    expected = first.ask(tensor(1, 2, 3))
    first.close()
    one = hashlib.sha256(pictures(2)[0].tobytes()).digest()
    execute(stored(tmp_path), "UPDATE answers SET answer = ? WHERE digest = ?", answer, one)
    fake, cost = Fake(), Cost()
    assert torch.equal(client(fake, tmp_path, cost=cost).ask(tensor(1, 2, 3)), expected)
    assert (fake.asked, cost.queries) == ([2], 3)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"stored answers {stored(tmp_path)}: 1 of 3 are damaged; asking anew"
    again = Fake()
    assert torch.equal(client(again, tmp_path).ask(tensor(1, 2, 3)), expected)
    assert again.asked == []


def test_one_flipped_bit_of_an_answer(tmp_path: Path) -> None:
    first = client(Fake(), tmp_path)
    expected = first.ask(tensor(1, 2, 3))
    first.close()
    content = bytearray(stored(tmp_path).read_bytes())
    content[content.find(Fake.row(pictures(2)[0]).tobytes())] ^= 1  # still a distribution
    stored(tmp_path).write_bytes(content)
    fake = Fake()
    assert torch.equal(client(fake, tmp_path).ask(tensor(1, 2, 3)), expected)
    assert fake.asked == [2]


def test_answers_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have no checksum."""
    first = client(Fake(), tmp_path)
    expected = first.ask(tensor(1, 2))
    first.close()
    execute(stored(tmp_path), "UPDATE answers SET answer = substr(answer, 1, 16)")
    fake = Fake()
    assert torch.equal(client(fake, tmp_path).ask(tensor(1, 2)), expected)
    assert fake.asked == []


@pytest.mark.parametrize("change", ["UPDATE answers SET answer = x'00'", "DROP TABLE answers"])
def test_a_file_that_changes_while_it_is_open(tmp_path: Path, change: str) -> None:
    client(Fake(), tmp_path).ask(tensor(1))
    fake = Fake()
    oracle = client(fake, tmp_path)
    execute(stored(tmp_path), change)
    assert torch.equal(oracle.ask(tensor(1)), client(Fake()).ask(tensor(1)))
    assert fake.asked == [1]


def test_damage_between_asking_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    oracle = client(fake, tmp_path)
    answer = fake.answer

    def late(images: np.ndarray) -> np.ndarray:
        execute(stored(tmp_path), "DROP TABLE answers")
        return answer(images)

    monkeypatch.setattr(fake, "answer", late)
    with pytest.raises(CacheError, match=r"model1-soft\.sqlite3 are damaged.*run the same command"):
        oracle.ask(tensor(1))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "answers" / "model1-soft.sqlite3").mkdir(parents=True)
    with pytest.raises(CacheError, match="cannot be used"):
        client(Fake(), tmp_path)


def test_a_folder_that_can_only_be_read(tmp_path: Path, frozen: Any) -> None:
    first = client(Fake(), tmp_path)
    expected = first.ask(tensor(1, 2))
    first.close()
    with frozen(tmp_path):
        fake = Fake()
        oracle = client(fake, tmp_path)
        assert torch.equal(oracle.ask(tensor(1, 2)), expected)
        assert fake.asked == []
        with pytest.raises(CacheError, match=r"model1-soft\.sqlite3 cannot be used.*--cache-dir"):
            oracle.ask(tensor(3))
        oracle.close()
    stored(tmp_path).write_bytes(b"damaged")
    with frozen(tmp_path), pytest.raises(CacheError, match=r"damaged, and Permission.*--cache-dir"):
        client(Fake(), tmp_path)
    stored(tmp_path).unlink()
    with frozen(tmp_path), pytest.raises(CacheError, match=r"unable to open.*--cache-dir"):
        client(Fake(), tmp_path)


# --- budget


def test_the_budget_is_checked_for_the_whole_set_first() -> None:
    fake, cost = Fake(), Cost()
    oracle = client(fake, budget=150, cost=cost)
    oracle.ask(tensor(0, 1))
    with pytest.raises(AccessError) as caught:
        oracle.ask_all(target(*range(200)))
    assert str(caught.value) == (
        "the budget allows 150 questions; 2 were asked and this set needs 198 more; "
        "raise --protocol.query_budget to 200 or more"
    )
    assert fake.asked == [0, 1]
    assert cost.queries == 2
    oracle.ask_all(target(*range(150)))
    assert cost.queries == 150
    oracle.ask(tensor(7, 8))  # free: asked before
    with pytest.raises(AccessError, match="150 were asked and this set needs 1 more"):
        oracle.ask(tensor(7, 200))


def test_the_budget_does_not_depend_on_the_cache(tmp_path: Path) -> None:
    client(Fake(), tmp_path).ask_all(target(*range(9)))
    with pytest.raises(AccessError, match="this set needs 9 more"):
        client(Fake(), tmp_path, budget=8).ask_all(target(*range(9)))


# --- useless answers


def wrong_row(values: list[float]) -> np.ndarray:
    rows = np.full((3, 4), 0.25, dtype=np.float32)
    rows[1] = values
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.full((2, 4), 0.25, np.float32), r"3 pictures.*\(2, 4\); expected float32 of \(3, 4\)"),
        (np.full((3, 5), 0.2, np.float32), r"\(3, 5\); expected float32 of \(3, 4\)"),
        (np.full(12, 0.25, np.float32), r"\(12,\)"),
        (np.full((3, 4), "x"), "<U1"),
        (wrong_row([float("nan"), 0.5, 0.5, 0]), "picture 1 holds nan"),
        (wrong_row([float("inf"), 0, 0, 0]), "picture 1 holds inf"),
        (wrong_row([-0.5, 0.5, 0.5, 0.5]), "picture 1 holds -0.5"),
        (wrong_row([0.5, 0.5, 0.5, 0.5]), "picture 1 sums to 2"),
        (wrong_row([0.2, 0.2, 0.2, 0.2]), "picture 1 sums to 0.8"),
    ],
)
def test_malformed_answers(rows: np.ndarray, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(fake, "answer", lambda images: rows)
    with pytest.raises(OracleError, match=words):
        client(fake).ask(tensor(1, 2, 3))
    assert fake.restarts == 0


def test_the_position_is_that_of_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()

    def half(images: np.ndarray) -> np.ndarray:
        return np.stack([Fake.row(image) * (1 - 0.5 * (image[0, 0, 0] == 90)) for image in images])

    monkeypatch.setattr(fake, "answer", half)
    with pytest.raises(OracleError, match=r"picture 92 sums to 0\.5"):
        client(fake).ask_all(target(0, 0, *range(100)))


def test_rounding_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    row = np.array([[-5e-7, 0.5, 0.5, 5e-4]])
    monkeypatch.setattr(fake, "answer", lambda images: row)
    found = client(fake).ask(tensor(1))
    assert found.min() == 0


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("a", "b", "c"), r"it lacks 'd';"),
        (("a", "b", "c", "e"), r"it lacks 'd' and it also has 'e'"),
        (("a", "c", "b", "d"), r"another order from position 1 on"),
        (("a", "b", "c", "d", "d"), r"another order from position 4 on"),
    ],
)
def test_wrong_classes(classes: tuple[str, ...], words: str) -> None:
    with pytest.raises(OracleError, match=words):
        client(Fake(dataclasses.replace(INFO, classes=classes)))


def test_wrong_image_size() -> None:
    with pytest.raises(OracleError, match=r"of 32 px, this task has 8 px.*--image-size 32"):
        client(Fake(dataclasses.replace(INFO, image_size=32)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../../etc"},
        {"id": 7},
        {"classes": []},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"image_size": "8"},
        {"image_size": 0},
        {"form": "a/b"},
        {"gives_probabilities": 1},
        {"val_accuracy": float("nan")},
        {"train_seconds": "long"},
    ],
)
def test_an_oracle_that_describes_itself_badly(wrong: dict[str, Any]) -> None:
    with pytest.raises(OracleError, match=f"describes itself with {next(iter(wrong))} = "):
        OracleInfo.from_dict(INFO.to_dict() | wrong)
    assert OracleInfo.from_dict(INFO.to_dict() | {"classes": list(CLASSES)}) == INFO


# --- retries


def test_two_failures_are_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("dabench.oracle.client.time.sleep", slept.append)
    fake = Fake(fails=2, after=0)
    oracle = OracleClient(fake, TASK, Cost(), None, None, attempts=3, pause=0.5)
    assert oracle.ask(tensor(5)).shape == (1, 4)
    assert fake.restarts == 2
    assert slept == [0.5, 1.0]


def test_a_restart_that_fails_is_a_failed_try(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(fails=1, after=0)

    def dead() -> None:
        fake.restarts += 1
        raise Unreachable("no restart")

    monkeypatch.setattr(fake, "restart", dead)
    with pytest.raises(
        OracleError, match=r"3 tries \(no restart\); 0 of 1 answers are kept in mem"
    ):
        client(fake).ask(tensor(5))
    assert fake.restarts == 2


def test_another_model_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(fails=1, after=0)

    def changed() -> None:
        fake.info = dataclasses.replace(INFO, id="model2")

    oracle = client(fake)
    monkeypatch.setattr(fake, "restart", changed)
    with pytest.raises(OracleError, match="came back as another model"):
        oracle.ask(tensor(5))
    assert fake.asked == []
