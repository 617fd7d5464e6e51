"""CIFAR-10/100 and their published corruptions: tiny files in the exact layouts, bad cousins."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published as made
import pytest
from PIL import Image

from dabench import registry
from dabench.cli.main import main
from dabench.config.command import run_command
from dabench.config.spec import resolve
from dabench.contract.data import DataRequest, DomainData
from dabench.datasets.arrays import checksums, cifar_c, cifar_files
from dabench.datasets.arrays.cifar import CIFAR10, CIFAR100
from dabench.datasets.arrays.pickles import read_pickle
from dabench.datasets.caching import cache_folder
from dabench.datasets.class_folders import cifar_jpeg
from dabench.errors import ConfigError, DabenchError, DataError
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.gradual_weather import GradualWeather
from dabench.protocols.online_seg import OnlineSegmentation
from dabench.protocols.online_tta import OnlineTTA
from dabench.protocols.sf_uda import SourceFreeClosedSet


def load(name: str, root: Path, **more: Any) -> DomainData:
    request = {"source": "train", "target": "test", "image_size": 32} | more
    found = registry.dataset(name)().load(
        DataRequest(**request, data_root=root, cache_dir=root / "cache")
    )
    assert isinstance(found, DomainData)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with CIFAR-10 and CIFAR-10-C of 20 test images."""
    made.write_cifar10_c(tmp_path)
    return tmp_path


# -- CIFAR-10 and CIFAR-100 ---------------------------------------------------------------------


def test_pickles_records_and_png_hold_the_same_pictures(tmp_path: Path) -> None:
    """The three layouts of one set; the first two in the published order."""
    roots = {kind: tmp_path / kind for kind in ("py", "bin", "png")}
    shown, own = made.write_cifar10(roots["py"])
    home = roots["bin"] / "cifar10" / "cifar-10-batches-bin"
    home.mkdir(parents=True)
    for name in CIFAR10.binary[1]["train"] + CIFAR10.binary[1]["test"]:
        seed = 9 if "test" in name else int(name[11])
        rows = [
            made.labels(20, seed)[:, None].astype(np.uint8),
            made.planes(made.pictures(20, seed)),
        ]
        np.concatenate(rows, axis=1).tofile(home / name)
    for part, seeds in (("train", range(1, 6)), ("test", (9,))):
        for seed in seeds:
            drawn = zip(made.pictures(20, seed), made.labels(20, seed), strict=True)
            for row, (picture, label) in enumerate(drawn):
                folder = roots["png"] / "cifar10" / part / made.TEN[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{seed}-{row}.png")
    found = {kind: load("cifar10", place) for kind, place in roots.items()}
    everything = np.arange(20)
    for kind in ("py", "bin"):
        np.testing.assert_array_equal(found[kind].target_all.images[everything], shown)
        np.testing.assert_array_equal(found[kind].target_all.labels, own)
    assert found["py"].digest == found["bin"].digest
    assert len(found["py"].source_train.images) == 100

    def by_content(data: DomainData) -> set[tuple[bytes, int]]:
        images, labels = data.source_train.images[np.arange(100)], data.source_train.labels
        return {(p.tobytes(), int(n)) for p, n in zip(images, labels, strict=True)}

    assert by_content(found["py"]) == by_content(found["png"])


def test_nothing_is_read_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("cifar10", root)
    monkeypatch.setattr(cifar_files, "read_pickle", lambda *_: pytest.fail("read again"))
    again = load("cifar10", root)
    assert again.digest == first.digest
    images = again.target_all.images
    assert isinstance(vars(images)["_array"], np.memmap)


def test_cifar100_has_the_fine_labels(tmp_path: Path) -> None:
    for part, count in (("train", 200), ("test", 100)):
        fine = [int(n) for n in made.labels(count, 3, 100)]
        value = {"data": made.planes(made.pictures(count, 3)), "fine_labels": fine}
        made.write_python2(
            tmp_path / "cifar-100-python" / part, {**value, "coarse_labels": [n // 5 for n in fine]}
        )
    names = {"fine_label_names": list(CIFAR100.classes), "coarse_label_names": ["x"]}
    made.write_python2(tmp_path / "cifar-100-python" / "meta", names)
    found = load("cifar100", tmp_path)
    assert len(found.classes) == 100
    assert list(found.classes) == sorted(found.classes)
    np.testing.assert_array_equal(found.target_all.labels, made.labels(100, 3, 100))
    records = tmp_path / "records"
    (records / "cifar-100-binary").mkdir(parents=True)
    for part, count in (("train", 200), ("test", 100)):
        label = made.labels(count, 3, 100)[:, None].astype(np.uint8)
        rows = [label // 5, label, made.planes(made.pictures(count, 3))]  # coarse, then fine
        np.concatenate(rows, axis=1).tofile(records / "cifar-100-binary" / f"{part}.bin")
    assert load("cifar100", records).digest == found.digest
    made.write_python2(
        tmp_path / "cifar-100-python" / "meta",
        {"fine_label_names": names["fine_label_names"][::-1]},
    )
    (told,) = registry.dataset("cifar100")().check(tmp_path)
    assert "names the classes" in told


class Foreign:
    """What a pickle must not bring to life."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


class Memory:
    """An array over bytes of the file's choice; of objects, they would be taken for pointers."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((1,), self.code, bytearray(8))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Foreign(), "names"),
        ({"data": Foreign()}, "names"),
        ([1, 2], "expected a dictionary"),
        (b"", "no pickle"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 pictures and 1 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "label 10; expected 0 to 9"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [0.5]}, "expected"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [0]}, "float32"),
        ({"data": np.zeros((1, 784), np.uint8), "labels": [0]}, "784"),
        ({"data": np.array([[Path("x")]], object), "labels": [0]}, "names|elements of the type"),
        ({"data": np.zeros(1, [("a", "u1")]), "labels": [0]}, "elements of the type"),
        (pickle.dumps({"data": Memory("O"), "labels": [0]}, 5), "arguments"),
        (pickle.dumps({"data": Memory("u1"), "labels": [0]}, 5), "arguments"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}, "fine_labels"),
    ],
)
def test_a_bad_pickle_is_told_in_one_line_and_never_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, value: Any, told: str
) -> None:
    monkeypatch.chdir(root)
    text = value if isinstance(value, bytes) else pickle.dumps(value)
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(text)
    with pytest.raises(DataError, match=told) as caught:
        load("cifar10", root)
    assert "\n" not in str(caught.value)
    assert "test_batch" in str(caught.value)
    assert not (root / "touched").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_today_are_read_too(tmp_path: Path, protocol: int) -> None:
    data = {
        b"data": np.arange(6, dtype=np.uint8),
        b"turned": np.asfortranarray(np.arange(6.0, dtype=">f4").reshape(2, 3)),
        "words": np.array(["a", "bc"]),
    }
    (tmp_path / "p").write_bytes(pickle.dumps(data | {b"labels": [1, 2], "name": "x"}, protocol))
    found = read_pickle(tmp_path / "p", "cifar10")
    for name, array in data.items():
        read = found[name if isinstance(name, str) else name.decode()]
        np.testing.assert_array_equal(read, array, strict=True)
    assert found["labels"] == [1, 2]


@pytest.mark.parametrize("told", ["has no data_batch_3", "another set; use --dataset cifar10-jpeg"])
def test_what_is_missing_and_what_is_lossy(root: Path, told: str) -> None:
    home = root / "cifar-10-batches-py"
    if "jpeg" in told:
        home.rename(root / "elsewhere")
        for part in ("train", "test"):
            for name in made.TEN:
                folder = root / "cifar10" / part / name
                folder.mkdir(parents=True)
                Image.fromarray(made.pictures(1, 0)[0]).save(folder / "a.jpg")
    else:
        (home / "data_batch_3").unlink()
    with pytest.raises(DataError, match=told):
        load("cifar10", root)
    assert any(told in line for line in registry.dataset("cifar10")().check(root))


def test_a_look_alike_of_full_size_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with as many pictures as the published one has to be that one."""
    monkeypatch.setitem(CIFAR10.counts, "test", 20)
    with pytest.raises(DataError, match="MD5") as caught:
        load("cifar10", root)
    assert checksums.FILES["cifar-10-batches-py/test_batch"] in str(caught.value)


def test_reduced_copies_are_named_by_the_check(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "check", "cifar10-c", "--data-root", str(root), "--cache-dir", str(root / "c")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "part 'train': 100 images, the public set has 50000" in told
    assert "20 pictures a severity, the published set has 10000" in told
    (root / "CIFAR-10-C" / "fog.npy").unlink()
    (root / "CIFAR-10-C" / "saturate.npy").unlink()
    assert main(words) == 2
    told = capsys.readouterr().out
    assert "fog.npy" in told
    assert "optional: no saturate.npy" in told


def test_the_check_looks_at_the_corruptions_where_the_clear_images_are_missing(root: Path) -> None:
    home = next(root.rglob("cifar-10-batches-py"))
    home.rename(home.with_name("elsewhere"))
    (root / "CIFAR-10-C" / "fog.npy").unlink()
    (root / "CIFAR-10-C" / "snow.npy").write_bytes(b"cut off")
    np.save(root / "CIFAR-10-C" / "frost.npy", np.zeros((10, 32, 32), np.uint8))
    told = registry.dataset("cifar10-c")().check(root)
    named = ["no folder cifar-10-batches-py", "fog.npy", "snow.npy", "frost.npy"]
    assert [w for w in named if any(w in line for line in told)] == named
    assert len(told) == len(named)


def test_the_check_looks_at_archives_that_still_lie_there(root: Path, tmp_path: Path) -> None:
    """Those of all four layouts and of both corrupted sets, each by its own name."""
    home = next(root.rglob("cifar-10-batches-py")).parent
    for archive in ("cifar-10-python.tar.gz", "cifar-100-python.tar.gz"):
        (home / archive).write_bytes(b"no archive")
    (root / "CIFAR-10-C.tar").write_bytes(b"nor this")
    told = registry.dataset("cifar10-c")().check(root)
    named = [line.split(" has the MD5")[0] for line in told if "has the MD5" in line]
    assert [Path(name).name for name in named] == ["cifar-10-python.tar.gz", "CIFAR-10-C.tar"]
    assert set(checksums.ARCHIVES) == {
        *(spec.python[0] for spec in (CIFAR10, CIFAR100)),
        *(spec.binary[0] for spec in (CIFAR10, CIFAR100)),
        *("CIFAR-10-C", "CIFAR-100-C"),
    }


def test_a_folder_in_other_letters_is_checked_as_the_published_one(root: Path) -> None:
    home = next(root.rglob("cifar-10-batches-py"))
    home.rename(home.with_name("CIFAR_10_batches_py"))
    (root / "CIFAR-10-C").rename(root / "cifar10c")
    (home.parent / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    (root / "CIFAR-10-C.tar").write_bytes(b"nor this")
    told = registry.dataset("cifar10-c")().check(root)
    assert sum("has the MD5" in line for line in told) == 2


def test_the_check_says_that_the_binary_version_has_no_checksums(tmp_path: Path) -> None:
    home = tmp_path / "cifar-10-batches-bin"
    home.mkdir()
    for name in CIFAR10.binary[1]["train"] + CIFAR10.binary[1]["test"]:
        np.zeros(3073, np.uint8).tofile(home / name)
    told = registry.dataset("cifar10")().check(tmp_path)
    assert any(
        "no checksums" in line and "c32a1d4ab5d03f1284b67883e8d87530" in line for line in told
    )


def test_the_check_knows_the_published_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar_c, "PER_SEVERITY", 20)
    told = [line for line in registry.dataset("cifar10-c")().check(root) if "MD5" in line]
    assert len(told) == 20
    assert "packed again" in told[0]


# -- CIFAR-10-C ---------------------------------------------------------------------------------


def test_a_corruption_is_a_shift_of_the_test_images(root: Path) -> None:
    data = load("cifar10-c", root)
    assert data.shifts is not None
    assert len(data.shifts.names) == 19
    plan = ContinualTTA(shifts="published-fog:2,published-gaussian-noise:5", sequence="given").plan(
        data, 7, 0
    )
    fog = np.load(root / "CIFAR-10-C" / "fog.npy")
    shown = plan.published["published-fog", 2]
    np.testing.assert_array_equal(shown[np.arange(20)], fog[20:40])
    assert isinstance(vars(shown)["_array"], np.memmap)
    assert [s.name for s, _ in plan.stream.segments] == [
        "published-fog-2",
        "published-gaussian-noise-5",
    ]
    assert all(np.array_equal(np.sort(rows), np.arange(20)) for _, rows in plan.stream.segments)
    assert len(plan.held_out) == 0
    assert "OpenCV" not in plan.stream.rendering
    again = pickle.loads(pickle.dumps(shown))  # as a spawned worker gets it
    np.testing.assert_array_equal(again[np.arange(20)], fog[20:40])


def test_the_stream_knows_its_files_content(root: Path) -> None:
    """Other pixels are another stream; a file that the stream does not show is not."""

    def digest() -> str:
        data = load("cifar10-c", root)
        return OnlineTTA(shifts="published-fog:5").plan(data, 10, 0).stream.digest

    first = digest()
    np.save(root / "CIFAR-10-C" / "snow.npy", made.pictures(100, 55))
    assert digest() == first
    np.save(root / "CIFAR-10-C" / "fog.npy", made.pictures(100, 55))
    assert digest() != first


def options(*more: str) -> dict[str, Any]:
    given = dict(zip(more[::2], more[1::2], strict=True))
    base = {"method": "source", "protocol": "continual-tta", "dataset": "cifar10-c", "seed": 0}
    return resolve({**base, **given})[0].protocol_options


def test_the_order_is_the_fields_own() -> None:
    found = options("protocol.severity", "5")
    names = [f"published-{name.replace('_', '-')}:5" for name in made.STANDARD]
    assert found["shifts"] == ",".join(names)
    assert found["sequence"] == "given"
    assert options() == found, "severity 5 where none is given"
    three = options("protocol.severity", "3", "protocol.shifts", "published-extra,clear,fog:2")
    assert three["shifts"] == (
        "published-speckle-noise:3,published-gaussian-blur:3,published-spatter:3,"
        "published-saturate:3,clear,fog:2"
    )
    ours = options("dataset", "overhead", "protocol.severity", "2")
    assert ours["shifts"] == "fog:2,rain:2,ground-snow:2,low-light:2,lens-drops:2"
    assert options("dataset", "overhead")["shifts"] == (
        "fog:5,rain:5,ground-snow:5,low-light:5,lens-drops:5"
    )


def test_the_command_of_a_run_makes_the_same_run() -> None:
    base = {"method": "source", "protocol": "continual-tta", "dataset": "cifar10-c", "seed": 0}
    (spec,) = resolve({**base, "protocol.sequence": "seeded", "device": "cpu", "threads": 1})
    text = run_command(spec)
    assert "--protocol.sequence seeded" in text
    assert "shifts" not in text


def test_published_and_our_own_never_share_a_name(root: Path) -> None:
    from dabench.datasets.weather.apply import KINDS
    from dabench.datasets.weather.groups import GROUPS, PUBLISHED_SHIFTS

    assert not set(PUBLISHED_SHIFTS) & set(KINDS)
    assert not set(GROUPS) & set(KINDS)
    ours = OnlineTTA(shifts="c-brightness:5").plan(load("cifar10-c", root), 10, 0)
    theirs = OnlineTTA(shifts="published-brightness:5").plan(load("cifar10-c", root), 10, 0)
    assert ours.stream.segments[0][0].name != theirs.stream.segments[0][0].name
    assert not ours.published


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"protocol.severity": "6"}, "severities 1 to 5"),
        ({"protocol.severity": "five"}, "whole number"),
        ({"protocol.severity": "5", "protocol.shifts": "fog:5"}, "names its own"),
        ({"protocol.shifts": "published-fogg:5"}, "did you mean 'published-fog'"),
        ({"protocol.shifts": "published-fog"}, "no severity: write published-fog:5"),
    ],
)
def test_a_bad_shift_is_told(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ContinualTTA(**options(*(word for pair in given.items() for word in pair)))


def test_shifts_need_the_files_of_their_set(root: Path) -> None:
    with pytest.raises(ConfigError, match="cifar10 has no published files"):
        OnlineTTA(shifts="published-fog:5").plan(load("cifar10", root), 10, 0)
    (root / "CIFAR-10-C" / "fog.npy").unlink()
    with pytest.raises(DataError, match=r"there is no .*fog\.npy; unpack CIFAR-10-C\.tar"):
        OnlineTTA(shifts="published-fog:5").plan(load("cifar10-c", root), 10, 0)


def test_where_nothing_was_given_the_archive_is_to_be_got() -> None:
    assert str(registry.dataset("cifar10-c")().check(None)[0]).endswith(
        "(get CIFAR-10-C.tar from https://zenodo.org/records/2535967)"
    )


def test_frames_have_no_published_files() -> None:
    with pytest.raises(ConfigError, match="read from files of classified pictures"):
        OnlineSegmentation(conditions="fog:3,published-fog:3")


def test_protocols_that_make_no_stream_refuse_the_set(root: Path) -> None:
    reason = SourceFreeClosedSet().is_valid(load("cifar10-c", root))
    assert reason is not None
    assert "shifts of the streams" in reason
    plan = GradualWeather(weather="published-fog").plan(load("cifar10-c", root), 10, 0)
    assert [s.severity for s, _ in plan.stream.segments] == [0, 1, 2, 3, 4, 5]
    assert GradualWeather(weather="published-fog").is_valid(load("cifar10-c", root)) is None


def test_jpeg_folders_are_a_set_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (cifar_jpeg.SHOWN, cifar_jpeg.HELD_OUT) == (100, 50)
    monkeypatch.setattr(cifar_jpeg, "SHOWN", 8)
    monkeypatch.setattr(cifar_jpeg, "HELD_OUT", 4)
    for part, count in (("train", 2), ("test", 15)):
        for number, name in enumerate(made.TEN):
            folder = tmp_path / "cifar10" / part / name
            folder.mkdir(parents=True)
            grey = np.full((32, 32, 3), 20 * number, np.uint8)
            for i in range(count):
                Image.fromarray(grey).save(folder / f"{i:04d}.jpg")
    data = load("cifar10-jpeg", tmp_path)
    found = options("dataset", "cifar10-jpeg")
    assert found["shifts"].startswith("c-gaussian-noise:5,c-shot-noise:5,")
    plan = ContinualTTA(**found).plan(data, 200, 0)
    assert len(plan.stream.segments) == 15
    assert {len(rows) for _, rows in plan.stream.segments} == {80}
    assert (np.bincount(plan.truth[plan.held_out]) == 4).all()
    assert not set(plan.held_out) & set(plan.stream.segments[0][1])
    extra = options("dataset", "cifar10-jpeg", "protocol.shifts", "c-extra")
    assert len(ContinualTTA(**extra).plan(data, 200, 0).stream.segments) == 4
    assert registry.dataset("cifar10-jpeg")().check(tmp_path)[0].startswith("optional")
    Image.fromarray(grey).save(folder / "lossless.png")
    with pytest.raises(DataError, match="no JPEG file"):
        load("cifar10-jpeg", tmp_path)
    with pytest.raises(ConfigError, match="32 x 32"):
        load("cifar10-jpeg", tmp_path, image_size=64)


REAL = Path(os.environ.get("DABENCH_DATA", "/nonexistent"))


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "cifar10").is_dir(), reason="DABENCH_DATA has no cifar10")
def test_real_jpegs_under_our_corruptions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published ResNet-20: statistics of the batch gain under noise, fog and low contrast."""
    model = Path(__file__).parents[1] / "models" / "cifar_resnet20.py"
    words = [
        "run",
        "--dataset",
        "cifar10-jpeg",
        "--data-root",
        str(REAL),
        "--protocol",
        "online-tta",
    ]
    words += ["--source-model", f"{model}:build", "--no-progress", "--json", "--device", "cpu"]
    words += ["--source-checkpoint", str(REAL / "weights" / "resnet20-12fca82f.th")]
    words += ["--source-mean", "0.485,0.456,0.406", "--source-std", "0.229,0.224,0.225"]
    words += ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    found = {}
    shifts = ("c-gaussian-noise", "c-fog", "c-contrast")
    words += ["--protocol.severity", "5", "--protocol.shifts", ",".join(shifts)]
    for method in ("source", "bn-adapt"):
        assert main([*words, "--method", method, "--threads", "1"]) == 0
        found[method] = json.loads(capsys.readouterr().out)["scores"]
    for shift in shifts:
        assert (
            found["bn-adapt"][f"accuracy/{shift}-5"] > found["source"][f"accuracy/{shift}-5"] + 0.1
        )


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _save(make: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        changed = make(np.load(path))
        np.save(path, changed, allow_pickle=True)

    return change


def _zipped(path: Path) -> None:
    found = np.load(path)
    with path.open("wb") as file:
        np.savez(file, found)


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("fog", _truncate, "no whole .npy file"),
        ("fog", lambda path: path.write_bytes(b""), "no whole .npy file"),
        ("fog", lambda path: path.write_bytes(path.read_bytes() + b"x"), "1 bytes more"),
        ("fog", _zipped, "no whole .npy file"),
        ("fog", _save(lambda x: x[:20]), r"\(20, 32, 32, 3\); published is"),
        ("fog", _save(lambda x: x.astype(np.float32)), "float32"),
        ("fog", _save(lambda x: x.transpose(0, 3, 1, 2)), r"\(100, 3, 32, 32\)"),
        ("fog", _save(np.asfortranarray), "column by column"),
        ("fog", _save(lambda x: x.astype(object)), "no whole .npy file"),
        ("labels", _save(lambda x: x[:20]), "20 labels; expected 5 times 20"),
        ("labels", _save(lambda x: x + 1), "labels 1 to 10; expected 0 to 9"),
        ("labels", _save(lambda x: x.astype(float)), "whole numbers"),
        ("labels", _save(lambda x: np.roll(x, 1)), "in the order of the test images"),
        ("labels", lambda path: path.unlink(), "there is no"),
    ],
)
def test_a_file_of_another_form_is_told_in_one_line(
    root: Path, file: str, change: Callable[[Path], None], told: str
) -> None:
    path = root / "CIFAR-10-C" / f"{file}.npy"
    change(path)
    with pytest.raises(DataError, match=told) as caught:
        OnlineTTA(shifts="published-fog:5").plan(load("cifar10-c", root), 10, 0)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    assert any(path.name in line for line in registry.dataset("cifar10-c")().check(root))


def test_what_must_lie_beside_is_named(tmp_path: Path) -> None:
    for make, told in (
        (lambda: None, "no folder CIFAR-10-C"),
        (lambda: (tmp_path / "CIFAR-10-C.tar").touch(), "unpack .*CIFAR-10-C.tar"),
        (lambda: (tmp_path / "CIFAR-10-C").mkdir(), "no folder cifar-10-batches-py"),
    ):
        make()
        with pytest.raises(DataError, match=told):
            load("cifar10-c", tmp_path)
    made.write_cifar10(tmp_path)
    for more in ({"target": "train"}, {"image_size": 64}, {"source": "v6"}):
        with pytest.raises(DabenchError):
            load("cifar10-c", tmp_path, **more)


def test_a_whole_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to a record: segments, columns, and the second run's digests."""
    model = Path(__file__).parents[1] / "models" / "cifar_resnet20.py"
    words = ["run", "--method", "tent", "--protocol", "continual-tta", "--dataset", "cifar10-c"]
    words += ["--protocol.severity", "5", "--batch-size", "10", "--device", "cpu", "--threads", "1"]
    words += ["--protocol.shifts", "published-fog,published-snow,clear"]
    words += ["--source-model", f"{model}:build", "--data-root", str(root), "--no-progress"]
    words += ["--results", str(root / "results"), "--cache-dir", str(root / "cache"), "--json"]
    assert main(words) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert {"accuracy/published-fog-5", "accuracy/published-snow-5", "accuracy/clear"} <= set(
        found["scores"]
    )
    assert not any("held-out" in name for name in found["scores"])
    count, damaged = cache_folder.verify_all(root / "cache", "cifar10")
    assert (count, damaged) == (4, [])
