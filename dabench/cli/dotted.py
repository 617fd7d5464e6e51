"""``--method.NAME VALUE`` and ``--protocol.NAME VALUE``, which argparse does not know by name."""

from __future__ import annotations

from dabench import registry
from dabench.config.options import FLAGS, OPTIONS
from dabench.errors import ConfigError, did_you_mean

#: options of ``run`` that decide the source model, or where things lie
SERVED = (
    *("protocol", "dataset", "source", "target", "backbone", "weights", "image-size"),
    *("source-backbone", "source-weights", "source-epochs", "freeze", "seed", "source-seed"),
    *("source-model", "source-checkpoint", "source-head", "source-mean", "source-std"),
    *("device", "devices", "threads", "data-root", "cache-dir"),
)
#: options of ``sweep`` that choose the runs, in place of the names that ``run`` has for one
AXES = {"methods": "method", "protocols": "protocol", "datasets": "dataset"}
SWEPT = tuple(name for name in OPTIONS if name not in (*AXES.values(), "seed"))
#: options of ``tune``: its grid names the methods
TUNED = tuple(name for name in SWEPT if name not in ("tuned", "oracle-url", "checkpoint-every"))
#: options of ``stream``: those that decide what is shown, or where things lie
PREVIEWED = (
    *("protocol", "dataset", "source", "target", "image-size", "batch-size", "seed"),
    *("config", "data-root", "cache-dir"),
)
#: all options of the commands that take ``--method.NAME`` or ``--protocol.NAME``, for suggestions
_KNOWN = {
    "run": (*OPTIONS, *FLAGS, "config"),
    "serve-source": (*SERVED, "host", "port", "token", "config", "no-progress"),
    "adapt": (
        *("method", "images", "out", "classes", "source-model", "source-checkpoint"),
        *("source-head", "source-mean", "source-std", "oracle-url", "cache-dir", "backbone"),
        *("weights", "open-set", "init", "epochs", "batch-size", "image-size", "seed", "threads"),
        *("device", "no-flip", "export", "strict", "no-progress"),
    ),
    "stream": (*PREVIEWED, "out"),
    "check": ("protocols", "cache-dir", "threads"),
    "sweep": (
        *(*AXES, *SWEPT, "workers", "dry-run", "shard", "order", "executor", "status"),
        *("force", "resume", "save-model", "target-tuned", "no-progress", "address"),
        *("gpus-per-run", "cpus-per-run", "chunk", "partition", "time", "gres"),
    ),
    "tune": (*TUNED, "workers", "dry-run", "force", "resume", "name", "no-progress"),
}


def join_dotted(argv: list[str]) -> list[str]:
    """Join ``--method.NAME VALUE`` by ``=``, or argparse takes VALUE for an argument of its own."""
    joined: list[str] = []
    for argument in argv:
        last = joined[-1] if joined else ""
        open_end = last.startswith(("--method.", "--protocol.")) and "=" not in last
        if open_end and not argument.startswith("--"):
            joined[-1] = f"{last}={argument}"
        else:
            joined.append(argument)
    return joined


def dotted_options(
    arguments: list[str], command: str = "run", method: str | None = None
) -> dict[str, str]:
    """Read ``--method.NAME VALUE`` and ``--protocol.NAME=VALUE``; refuse everything else.

    Args:
        arguments: what argparse does not know.
        command: whose arguments they are.
        method: that it names, whose options somebody may have meant.

    Raises:
        ConfigError: another argument, or one without a value; says what may be meant.
    """
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith(("--method.", "--protocol.")):
            near = _meant(argument, name, command, method)
            raise ConfigError(f"unknown argument '{argument}'{near}")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise ConfigError(f"--{name} needs a value")
        found[name] = value
    return found


def _meant(argument: str, name: str, command: str, method: str | None) -> str:
    """Return the end of a message: what an unknown argument may have been meant for."""
    if command == "sweep" and not argument.startswith("-"):
        return "; lists have commas: --methods source,shot"
    known = _KNOWN[command]
    if argument in registry.METHODS and "method" in known:
        return f"; did you mean '--method {argument}'?"
    if method is not None and argument.startswith("-"):
        from dabench.config.signature import listed_options

        cls = registry.method(registry.name_of("method", method))
        if name in [option.name for option in listed_options(cls)]:
            return f"; did you mean '--method.{name}'?"
    # dashes that all of them begin with are no likeness
    near = did_you_mean(name, known)
    near = near.replace("did you mean '", "did you mean '--")
    return near if near.startswith("; did") else f"; see 'dabench {command} --help'"


def method_options(arguments: list[str], command: str, method: str | None = None) -> dict[str, str]:
    """Read ``--method.NAME VALUE`` of a command without options of a protocol."""
    found = dotted_options(arguments, command, method)
    for name in found:
        if name.startswith("protocol."):
            raise ConfigError(f"--{name}: 'dabench {command}' takes options of the method alone")
    return {n.removeprefix("method.").replace("-", "_"): value for n, value in found.items()}
