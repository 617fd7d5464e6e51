"""Ranges of numbers that methods take as options; pydantic checks them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
#: a momentum, or a share of the past that is kept
BelowOne = Annotated[float, Field(ge=0, lt=1)]
