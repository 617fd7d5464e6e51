"""Hyper-parameters as annotated fields: one constructor, the same signature for all readers."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

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
