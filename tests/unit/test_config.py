"""Words -> RunSpec: precedence, conversion, and one-line errors that say what to do."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from unittest import mock

import numpy as np
import pytest
from pydantic import Field

from dabench import registry
from dabench.config.command import run_command
from dabench.config.hardware import resolve_device
from dabench.config.options import merge, parse_seeds
from dabench.config.settings import read_settings
from dabench.config.signature import signature_options, validate_options
from dabench.config.spec import RunSpec, changed_options, resolve
from dabench.errors import ConfigError


class FakeMethod:
    """A method.

    Args:
        lr: learning rate
            of the backbone.
        criterion (str): how known and unknown are told apart.
        teacher: whether there is one.
        cap: at most so many, or none.
    """

    default_init: ClassVar[str] = "auto"

    def __init__(
        self,
        *,
        lr: Annotated[float, Field(gt=0)] = 1,
        criterion: Literal["jsd", "ce"] = "jsd",
        teacher: bool = True,
        cap: int | None = None,
    ) -> None:
        self.lr = lr


class FakeProtocol:
    """A protocol."""

    def __init__(self, *, split: str = "default", held_out: float = 0.3) -> None:
        self.split = split


class FakeData:
    """A data set."""

    domains = ("print", "handwritten")
    defaults: ClassVar[dict[str, Any]] = {
        "source": "print",
        "target": "handwritten",
        "image_size": 32,
        "backbone": "small-cnn",
        "weights": "none",
        "epochs": 20,
        "source_epochs": 8,
    }


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("fake_parts")
    for cls in (FakeMethod, FakeProtocol, FakeData):
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "fake_parts", module)
    method = registry.MethodEntry("fake_parts:FakeMethod", "", ("fake-protocol",))
    protocol = registry.ProtocolEntry("fake_parts:FakeProtocol", "", "fake-data", "HOS")
    monkeypatch.setitem(registry.METHODS, "fake", method)
    monkeypatch.setitem(registry.PROTOCOLS, "fake-protocol", protocol)
    monkeypatch.setitem(
        registry.DATASETS, "fake-data", registry.DataEntry("fake_parts:FakeData", "")
    )


def spec(**given: Any) -> RunSpec:
    options = {"method": "fake", "device": "cpu"} | given
    return resolve({name.replace("_", "-"): value for name, value in options.items()})[0]


def test_the_method_alone_is_enough() -> None:
    found = spec()
    assert (found.protocol, found.dataset) == ("fake-protocol", "fake-data")
    assert (found.source, found.target, found.image_size) == ("print", "handwritten", 32)
    assert (found.epochs, found.source_epochs, found.batch_size, found.freeze) == (20, 8, 64, 0)
    assert (found.init, found.seed, found.threads > 0) == ("bn-target", 0, True)
    assert spec(weights="pretrained").init == "source"  # its statistics are worth keeping
    assert spec(weights="pretrained", init="bn-target").init == "bn-target"
    assert found.method_options == {"lr": 1.0, "criterion": "jsd", "teacher": True, "cap": None}
    assert found.protocol_options == {"split": "default", "held_out": 0.3}
    assert found.to_dict()["method_options"]["criterion"] == "jsd"


def test_the_whole_trunk_can_be_frozen() -> None:
    assert spec(freeze="3").freeze == 3
    office = {"dataset": "office31", "source": "amazon", "target": "dslr"}
    assert spec(**office).freeze == spec(**office, backbone="efficientnet_lite0").freeze == 8
    # eight stages are all that a resnet50 has
    assert spec(**office, backbone="resnet50").freeze == 0
    assert spec(**office, backbone="resnet50", freeze="2").freeze == 2
    found = spec(freeze="all")
    assert (found.freeze, found.to_dict()["freeze"]) == ("all", "all")
    assert "--freeze all" in run_command(found)


def test_command_line_beats_file_beats_data_set(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: fake\nepochs: 7\nseeds: [1, 2]\nmethod.lr: 1e-3\nbatch-size: 16\n")
    found = resolve({"config": str(file), "epochs": "3", "device": "cpu", "seed": "5"})
    assert [(s.epochs, s.batch_size, s.source_epochs, s.seed) for s in found] == [(3, 16, 8, 5)]
    assert found[0].method_options["lr"] == 1e-3
    assert [s.seed for s in resolve({"config": str(file), "device": "cpu"})] == [1, 2]


def test_values_are_converted_from_words() -> None:
    given = {"lr": "1e-3", "teacher": "off", "cap": "none", "criterion": "ce"}
    expected = {"lr": 1e-3, "teacher": False, "cap": None, "criterion": "ce"}
    assert validate_options(FakeMethod, given, "method") == expected
    assert type(validate_options(FakeMethod, {}, "method")["lr"]) is float


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"lr": "abc"}, ["--method.lr 'abc'", "number"]),
        ({"lr": "-1"}, ["--method.lr '-1'", "greater than 0"]),
        ({"lr": "nan"}, ["--method.lr 'nan'"]),
        ({"criterion": "jds"}, ["--method.criterion 'jds'", "'jsd' or 'ce'"]),
        ({"criterium": "ce"}, ["--method.criterium", "did you mean 'criterion'"]),
        ({"cap": "1.5"}, ["--method.cap '1.5'", "integer"]),
        ({"cap": "1_0"}, ["--method.cap '1_0'", "number"]),
        ({"cap": "010"}, ["--method.cap '010'", "number"]),
        ({"cap": True}, ["--method.cap True", "number"]),
        ({"lr": True}, ["--method.lr True", "number"]),
        ({"lr": "٣"}, ["--method.lr '٣'", "number"]),
        ({"lr": "1e999"}, ["--method.lr '1e999'"]),
        ({"lr": "inf"}, ["--method.lr 'inf'"]),
        ({"lr": "x" * 5000}, ["--method.lr 'xxx", "number"]),
    ],
)
def test_bad_options_name_the_flag(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_options(FakeMethod, given, "method")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert all(part in str(caught.value) for part in parts)


def test_what_a_data_set_has_no_default_for_is_named_at_once() -> None:
    given = {"method": "shot", "protocol": "sf-uda", "source": "a", "target": "b", "epochs": 2}
    none = mock.patch.object(registry.dataset("image-folder"), "defaults", {})
    wanted = "image-folder has no default for --backbone, --weights, --image-size, --source-epochs;"
    with none, pytest.raises(ConfigError, match=wanted):
        resolve(given | {"dataset": "image-folder"})


def test_meanings_come_from_the_docstring() -> None:
    helps = {option.name: option.help for option in signature_options(FakeMethod)}
    assert helps["lr"] == "learning rate of the backbone."
    assert helps["criterion"] == "how known and unknown are told apart."
    assert signature_options(FakeData) == ()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"method": "fak"}, "did you mean 'fake'"),
        ({"protocol": "fake-protocl"}, "did you mean 'fake-protocol'"),
        ({"protocol": "sf-osda"}, "it serves fake-protocol"),
        ({"dataset": "fake-dat"}, "did you mean 'fake-data'"),
        ({"source": "prnt"}, "did you mean 'print'"),
        ({"init": "bn"}, "source or bn-target"),
        ({"epochs": "x"}, "--epochs 'x'"),
        ({"freeze": "al"}, "--freeze 'al': expected a whole number or all"),
        ({"batch_size": "1"}, "expected 2 or more"),
        ({"seed": 1, "seeds": "1-2"}, "not both"),
        ({"device": "gpu"}, "--device 'gpu'"),
        ({"protocol.spilt": "r3"}, "did you mean 'split'"),
        ({"seed": "4294967296"}, "expected 4294967295 or less"),
        ({"source-seed": 2**64}, "expected 4294967295 or less"),
        ({"epochs": "1_0"}, "--epochs '1_0': expected a whole number"),
        ({"epochs": "٣"}, "--epochs '٣': expected a whole number"),
        ({"epochs": 2.0}, "--epochs 2.0: expected a whole number"),
        ({"weights": "x" * 5000}, "at most 4095 characters"),
        ({"backbone": ""}, "--backbone '': expected a name"),
        ({"threads": "99999"}, "expected 4096 or less"),
    ],
)
def test_bad_common_options(given: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=r"\A[^\n]*\Z") as caught:
        spec(**given)
    assert part in str(caught.value)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no such GPU"):
        resolve_device("cuda")


def test_an_apple_gpu_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no Apple GPU here; use --device cpu"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == "mps"
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="cuda:N or mps"):
        resolve_device("mps:0")


@pytest.mark.parametrize(
    ("text", "seeds"), [("5-9", [5, 6, 7, 8, 9]), ("0,1,2", [0, 1, 2]), (3, [3]), ([1, 2], [1, 2])]
)
def test_seeds(text: Any, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


BAD_SEEDS = ["9-5", "a", "", "1,,2", "-1", "1_0", "٣", "007", "1" * 5000, "1.5", None, True, {}]


@pytest.mark.parametrize("text", BAD_SEEDS)
def test_bad_seeds(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"\A--seeds .{0,250}expected a range like"):
        parse_seeds(text)


def test_seeds_have_32_bits_and_there_is_a_limit_to_them() -> None:
    assert parse_seeds("4294967290-4294967295")[-1] == 2**32 - 1
    with pytest.raises(ConfigError, match="a seed is a number from 0 to 4294967295"):
        parse_seeds("4294967296")
    assert len(parse_seeds("0-9999")) == 10_000
    for text in ("0-10000", "0-99999999", "0-9999,10000"):
        with pytest.raises(ConfigError, match="more than 10000 seeds; give them in parts"):
            parse_seeds(text)


def test_zero_has_one_sign() -> None:
    class Shifted:
        def __init__(self, *, by: float = 1.0) -> None:
            self.by = by

    assert str(validate_options(Shifted, {"by": "-0.0"}, "method")["by"]) == "0.0"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("epoch: 3\n", "did you mean 'epochs'"),
        ("- a\n", "expected lines like"),
        ("a: [\n", "not valid YAML"),
        ("force: 3\n", "--force '3': expected true or false"),
        ("seeds: []\n", "--seeds []: no seed"),
        ("epochs: 3\nmethod: fake\nepochs: 4\n", "'epochs' stands twice, in lines 1 and 3"),
        ("epochs: 010\n", "--epochs '010': expected a whole number"),
        ("epochs: 1:30\n", "--epochs '1:30'"),
        ("epochs: 1_0\n", "--epochs '1_0'"),
        ("epochs: 2001-01-01\n", "--epochs '2001-01-01'"),
        ("epochs: true\n", "--epochs 'true'"),
        ("epochs: !!binary aGk=\n", "the tag !!binary has no meaning here"),
        ("epochs: [3, 4]\n", "--epochs ['3', '4']"),
        ("method.lr: true\n", "--method.lr 'true': expected"),
        ("method.lr: .inf\n", "--method.lr '.inf'"),
        ("method.lr: 1_0.5\n", "--method.lr '1_0.5': expected a number"),
        ("source: 010\n", "--source '010': fake-data has no such domain"),
        ("source: no\n", "--source 'no': fake-data has no such domain"),
        ("source: null\nsource:\n", "'source' stands twice"),
        ("? [a, b]\n: 3\n", "a key is one word"),
        ("<<: 3\n", "'<<' takes a block"),
        ("a: &a [*a]\n", "aliases make more than"),
        ("[" * 100, "nested more than 40 deep"),
        ("epochs: " + "9" * 5000 + "\n", "expected a whole number"),
        ("#" + "x" * 1_000_001, "more than 1000 kB"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        spec(config=str(file))
    assert part in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        spec(config=str(tmp_path / "absent.yaml"))


def test_aliases_of_aliases_cost_neither_memory_nor_a_long_line(tmp_path: Path) -> None:
    lines = ["epochs:", "- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="aliases make more than 100000") as caught:
        spec(config=str(file))
    assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match="--epochs") as caught:
        spec(epochs=[["x" * 1000] * 1000] * 1000)
    assert len(str(caught.value)) < 1000


def test_words_of_a_file_are_read_as_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "method: fake\ndevice: cpu\nforce: yes\nmethod.teacher: off\nmethod.cap: null\n"
        "method.lr: 1e-3\n'epochs': \"7\"\nseeds: [3, 1]\nsource:\ntarget: ~\n"
        "protocol.split: 3\n<<: {epochs: 9, batch-size: 16}\n"
    )
    found = resolve({"config": str(file)})
    words = {"method.teacher": "off", "method.cap": "none", "method.lr": "1e-3", "epochs": "7"}
    words |= {"protocol.split": "3", "batch-size": "16", "seeds": "3,1"}
    assert found == resolve({"method": "fake", "device": "cpu", **words})
    assert read_settings({"config": str(file)}).force is True


@pytest.mark.parametrize("option", ["results", "data-root", "cache-dir"])
def test_a_folder_of_nobody_is_one_line(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{option} ~nouser-x/y: there is no home folder"):
        read_settings({option: "~nouser-x/y"})


def test_only_changed_options_make_a_variant() -> None:
    assert changed_options(spec()) == {}
    assert changed_options(spec(**{"method.criterion": "ce", "method.lr": "1"})) == {
        "criterion": "ce"
    }


def test_settings_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DABENCH_DATA", "/somewhere")
    monkeypatch.setenv("DABENCH_CACHE", "/cache")
    found = read_settings({"results": "out", "force": True})
    assert (found.results, found.data_root) == (Path("out"), Path("/somewhere"))
    assert (found.cache_dir, found.force, found.progress) == (Path("/cache"), True, True)


def test_a_source_seed_of_its_own_is_another_spec() -> None:
    given = {"method": "source", "threads": 1, "device": "cpu"}
    (plain,) = resolve(given)
    (other,) = resolve(given | {"source-seed": "3"})
    assert "source_seed" not in plain.to_dict()
    assert (other.seed, other.to_dict()["source_seed"]) == (0, 3)


def test_whole_numbers_may_be_of_numpy() -> None:
    found = merge({"epochs": np.int64(3), "seed": np.uint8(1)})
    assert found == {"epochs": 3, "seed": 1}
    assert {type(value) for value in found.values()} == {int}
    with pytest.raises(ConfigError, match="expected a whole number"):
        merge({"epochs": np.bool_(True)})


@pytest.mark.parametrize("name", ["source-backbone", "source-weights"])
def test_a_source_of_its_own_kind_is_for_black_boxes(name: str) -> None:
    given = {"method": "shot", "protocol": "sf-uda", name: "none"}
    with pytest.raises(ConfigError, match=f"--{name}: under sf-uda the source model is"):
        resolve(given)


@pytest.mark.parametrize("name", ["source-epochs", "source-seed", "source-backbone"])
def test_what_trains_a_source_model_is_not_for_one_that_is_elsewhere(name: str) -> None:
    given = {"method": "dine", "protocol": "bb-uda", "protocol.oracle": "http", name: 3}
    with pytest.raises(ConfigError, match=f"--{name}: with --protocol.oracle http the source"):
        resolve(given | {"oracle-url": "http://127.0.0.1:9"})


def test_none_from_a_program_is_a_value() -> None:
    assert merge({"method.lr": None, "epochs": None}) == {"method.lr": None}
