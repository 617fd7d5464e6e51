"""Hyper-parameters as annotated fields: one constructor, the same signature for all readers."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field
from torch import Tensor

from dabench.api import OfflineMethod, OnlineMethod, Prediction, TargetBatch
from dabench.config.signature import signature_options, validate_options
from dabench.contract.options import HasOptions
from dabench.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]


class Base(HasOptions):
    """A method.

    Args:
        lr: learning rate.
        steps: how many.
    """

    version: ClassVar[str] = "1"
    access: Any
    _private: int = 3

    lr: Positive = 1e-2
    steps: int = 1

    def check_options(self) -> None:
        self.doubled = 2 * self.steps


class Child(Base):
    """Another.

    Args:
        more: of it.
    """

    steps: int = 5
    more: bool = False


class Own(HasOptions):
    def __init__(self, *, size: int = 4) -> None:
        super().__init__()
        self.size = size


def test_fields_are_keyword_only_arguments_in_order() -> None:
    parameters = inspect.signature(Base).parameters
    assert list(parameters) == ["lr", "steps"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    found = Base(steps=3)
    assert (found.lr, found.steps, found.doubled) == (1e-2, 3, 6)
    with pytest.raises(TypeError):
        Base(0.1)  # type: ignore[call-arg]


def test_options_are_inherited_and_may_have_another_default() -> None:
    assert [(o.name, o.default) for o in signature_options(Child)] == [
        ("lr", 1e-2),
        ("steps", 5),
        ("more", False),
    ]
    assert Child().doubled == 10
    assert {o.name: o.help for o in signature_options(Child)}["lr"] == "learning rate."


def test_bounds_reach_pydantic() -> None:
    assert validate_options(Base, {"lr": "0.5"}, "method") == {"lr": 0.5, "steps": 1}
    with pytest.raises(ConfigError, match="greater than 0"):
        validate_options(Base, {"lr": -1.0}, "method")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="no option rate"):
        Base(rate=1.0)  # type: ignore[call-arg]


def test_a_constructor_of_its_own_stays() -> None:
    assert [o.name for o in signature_options(Own)] == ["size"]
    assert Own(size=7).size == 7

    class Heir(Own):
        pass

    assert Heir(size=2).size == 2
    with pytest.raises(TypeError, match="constructor of its own"):
        type("Wrong", (Own,), {"__annotations__": {"lr": float}, "lr": 0.1, "__module__": __name__})


def test_a_default_that_instances_would_share_is_refused() -> None:
    body = {"__annotations__": {"sizes": list}, "sizes": [1], "__module__": __name__}
    with pytest.raises(TypeError, match="share"):
        type("Wrong", (HasOptions,), body)


def test_the_constructor_has_resolved_annotations() -> None:
    hints = typing.get_type_hints(Child.__init__, include_extras=True)
    assert hints == {"lr": Positive, "steps": int, "more": bool}
    assert not {"version", "access", "_private"} & set(hints)


def test_another_default_needs_no_annotation() -> None:
    class Quick(Child):
        lr = 0.5

    found = {o.name: (o.annotation, o.default) for o in signature_options(Quick)}
    assert found["lr"] == (Positive, 0.5)
    assert (Quick().lr, Child().lr) == (0.5, 1e-2)


def test_the_nearest_class_gives_the_default() -> None:
    class Left(Base):
        more: bool = True

    class Right(Base):
        steps: int = 9

    class Both(Left, Right):
        pass

    assert (Both().steps, Both.steps) == (9, 9)
    assert list(inspect.signature(Both).parameters) == ["lr", "steps", "more"]


def test_a_fixed_option_keeps_its_value_and_cannot_be_given() -> None:
    class Fixed(Child):
        fixed_options: ClassVar[frozenset[str]] = frozenset({"steps"})

    class Heir(Fixed):
        lr: Positive = 0.3

    for cls in (Fixed, Heir):
        assert [o.name for o in signature_options(cls)] == ["lr", "more"]
        assert (cls().steps, cls().doubled) == (5, 10)
        with pytest.raises(TypeError, match="no option steps"):
            cls(steps=1)
    body = {"fixed_options": frozenset({"stepz"}), "__module__": __name__}
    with pytest.raises(TypeError, match="stepz"):
        type("Wrong", (Child,), body)


def test_options_of_a_module() -> None:
    class Method(OnlineMethod):
        lr: Positive = 1e-3

        def step(self, batch: TargetBatch) -> Tensor:
            return batch.images

        def predict(self, images: Tensor) -> Prediction:
            return Prediction(images)

    method = Method(lr=0.2)
    assert method.lr == 0.2
    assert not method.state_dict()
    assert [o.name for o in signature_options(Method)] == ["lr"]


def test_the_examples_of_the_docs_are_methods() -> None:
    text = (Path(__file__).parents[2] / "docs/adding-a-method.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import" in b]
    found: dict[str, Any] = {"__name__": "adding_a_method"}
    for block in blocks:
        exec(compile(block, "adding-a-method.md", "exec"), found)
    assert issubclass(found["InfoMax"], OfflineMethod)
    assert issubclass(found["Confident"], OnlineMethod)
    options = {n: [o.name for o in signature_options(found[n])] for n in ("InfoMax", "Confident")}
    assert options == {"InfoMax": ["lr", "backbone_factor"], "Confident": ["lr", "grad_norm"]}
    assert all(o.help for n in options for o in signature_options(found[n]))
    assert found["InfoMax"](lr=0.5).lr == 0.5
