"""Hyper-parameters as annotated fields of a method's class.

``lr: Positive = 1e-2`` in the class body declares an option: its name, its type with bounds, its
default. The keyword-only constructor is made from the fields, so that the command line, YAML files
and ``--help`` read what type checkers read.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from typing import Any, ClassVar

Field = tuple[Any, Any]  # annotation, default


class HasOptions:
    """Makes a keyword-only constructor from the annotated fields of a subclass.

    ``ClassVar``, annotations without a value, and names that begin with ``_`` are no options.
    Options are inherited, and a subclass may give them another default, with the annotation or
    without. A class with a constructor of its own keeps it.

    Raises:
        TypeError: a list, dict or set as default (all instances would share it); fields below a
            class with a constructor of its own, which does not know them; or a fixed option that
            does not exist.
    """

    #: inherited options that keep their value and cannot be given
    fixed_options: ClassVar[frozenset[str]] = frozenset()
    #: options that came when runs were on record: at their default a spec leaves them out, so that
    #: those runs keep their ids
    later_options: ClassVar[frozenset[str]] = frozenset()
    #: the fields of the class's own body
    _fields: ClassVar[dict[str, Field]] = {}

    def __init__(self) -> None:
        super().__init__()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            return
        inherited: dict[str, Field] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited |= vars(base).get("_fields", {})
        own = _own_fields(cls, inherited)
        made = hasattr(cls.__init__, "_made_from_fields")
        if not made and cls.__init__ is not HasOptions.__init__:
            if own:
                raise TypeError(
                    f"{cls.__name__}: its base class has a constructor of its own, which takes no "
                    f"{', '.join(own)}; give {cls.__name__} one as well"
                )
            return
        fields = inherited | own
        wrong = sorted(cls.fixed_options - fields.keys())
        if wrong:
            raise TypeError(f"{cls.__name__}.fixed_options: there is no option {', '.join(wrong)}")
        cls._fields = own
        offered = {name: f for name, f in fields.items() if name not in cls.fixed_options}
        cls.__init__ = _constructor(offered)  # type: ignore[method-assign]

    def check_options(self) -> None:
        """Refuse options that do not fit each other, and derive what follows from them."""


def _own_fields(cls: type, inherited: dict[str, Field]) -> dict[str, Field]:
    """Return the fields of a class body: name -> (annotation, default)."""
    body = vars(cls)
    annotations = inspect.get_annotations(cls)
    written = {
        name: annotation
        for name, annotation in annotations.items()
        if name in body and not name.startswith("_") and not _is_class_var(annotation)
    }

    def shell() -> None: ...

    shell.__annotations__ = written
    hints = typing.get_type_hints(shell, _names(cls), dict(body), include_extras=True)
    fields = {name: (hints[name], body[name]) for name in written}
    for name, (annotation, _) in inherited.items():
        if name in body and name not in annotations:  # ``lr = 0.5``: another default
            fields[name] = (annotation, body[name])
    for name, (_, default) in fields.items():
        if isinstance(default, list | dict | set):
            raise TypeError(
                f"{cls.__name__}.{name}: all instances would share this "
                f"{type(default).__name__}; give a tuple or None"
            )
    return fields


def _names(cls: type) -> dict[str, Any]:
    """Return the names of the module that a class stands in; it may be loaded under no name."""
    if cls.__module__ in sys.modules:
        return vars(sys.modules[cls.__module__])
    return next((f.__globals__ for f in vars(cls).values() if inspect.isfunction(f)), {})


def _is_class_var(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return re.match(r"(\w+\.)?ClassVar\b", annotation) is not None
    return annotation is ClassVar or typing.get_origin(annotation) is ClassVar


def _constructor(fields: dict[str, Field]) -> Any:
    """Return a constructor that takes every field by keyword and assigns it."""

    def __init__(self: HasOptions, **options: Any) -> None:
        HasOptions.__init__(self)
        unknown = sorted(set(options) - set(fields))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {', '.join(unknown)}")
        for name, (_, default) in fields.items():
            setattr(self, name, options.get(name, default))
        self.check_options()

    keyword = inspect.Parameter.KEYWORD_ONLY
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(
                inspect.Parameter(name, keyword, default=default, annotation=annotation)
                for name, (annotation, default) in fields.items()
            ),
        ]
    )
    __init__.__annotations__ = {name: annotation for name, (annotation, _) in fields.items()}
    __init__._made_from_fields = True  # type: ignore[attr-defined]
    return __init__
