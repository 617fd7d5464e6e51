"""The command line: arguments in, a number or a table out. Nothing heavy is imported at start."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from dabench import registry
from dabench.cli.dotted import dotted_options, join_dotted
from dabench.cli.output import EXIT_BUG, EXIT_PIPE, EXIT_USER, print_columns, say, say_lines
from dabench.cli.parser import COMMANDS, Parser, build_parsers
from dabench.config.options import merge
from dabench.contract.signals import end_of, terminable
from dabench.errors import ConfigError, did_you_mean, explain, one_line
from dabench.registry import announced

if TYPE_CHECKING:
    from dabench.config.settings import Settings
    from dabench.config.spec import RunSpec
    from dabench.engine.run import RunResult

#: commands -> where they are done; the second ones take --method.NAME VALUE as well
_COMMANDS = {
    "cards": "dabench.cli.cards:cards",
    "data": "dabench.cli.data:data",
    "diff": "dabench.cli.diff:diff",
    "export": "dabench.cli.export:export",
    "leaderboard": "dabench.cli.leaderboard:leaderboard",
    "new": "dabench.cli.new:new",
    "report": "dabench.cli.page:report",
    "reproduce": "dabench.cli.reproduce:reproduce",
    "store": "dabench.cli.store:store",
    "submit": "dabench.cli.submit:submit",
    "verify": "dabench.cli.verify:verify",
    "weather": "dabench.cli.weather:weather",
}
_WITH_DOTTED = {
    "adapt": "dabench.cli.adapt:adapt",
    "check": "dabench.cli.check:check",
    "serve-source": "dabench.cli.serve:serve_source",
    "stream": "dabench.cli.stream:stream",
    "sweep": "dabench.cli.sweep:sweep",
    "tune": "dabench.cli.tune:tune",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    0 is fine, 2 a user's error, 1 a bug, 130 Ctrl-C, 143 SIGTERM, 141 a reader that went away.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads are slow
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that lacks a character shows a sign for it
            stream.reconfigure(errors="replace")
    try:
        with terminable():
            code = _dispatch(argv)
        sys.stdout.flush()  # a reader that went away is noticed here, not at the interpreter's end
        return code
    except SystemExit as stop:  # argparse after --help or --version
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        how, code = end_of(stop)
        said = getattr(stop, "__notes__", ["nothing half-written; the same command starts again"])
        say(f"{how}; {'; '.join(said)}", error=True)
        return code
    except BrokenPipeError:  # `dabench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_PIPE
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a line
        return report_error(error, debug="--debug" in argv)


def report_error(error: Exception, *, debug: bool, where: str = "") -> int:
    """Print one line on stderr (with ``debug`` a traceback before it); return the exit code."""
    if debug:
        say_lines("".join(traceback.format_exception(error)), error=True)
    text, bug = explain(error)
    text += " (--debug shows the traceback)" if bug and not debug else ""
    say(f"error: {where}{text}", error=True)
    return EXIT_BUG if bug else EXIT_USER


def _dispatch(argv: list[str]) -> int:
    """Parse the arguments and run the command that they name."""
    for argument in argv:
        if "\0" in argument:
            raise ConfigError(f"'{one_line(argument, 100)}': an argument has no zero bytes")
    first = next((argument for argument in argv if not argument.startswith("-")), None)
    if first is not None and first not in COMMANDS:
        raise ConfigError(f"unknown command '{first}'{did_you_mean(first, COMMANDS)}")
    parser, run_parser = build_parsers()
    argv = join_dotted(argv) if first in ("sweep", "tune", "check", "adapt", "stream") else argv
    args, rest = parser.parse_known_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if args.command == "run":
        return _run(args, rest, run_parser)
    if args.command in _WITH_DOTTED:
        code: int = resolve_name(_WITH_DOTTED[args.command])(args, rest)
        return code
    if args.command == "store":  # argparse takes an empty list before the first option
        args.runs += [argument for argument in rest if not argument.startswith("-")]
        rest = [argument for argument in rest if argument.startswith("-")]
    if rest:
        raise ConfigError(f"dabench {args.command}: unknown argument '{rest[0]}'")
    return _command(args.command)(args)


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Import what a command does, and nothing else."""
    if name in ("list", "show"):
        return {"list": _list, "show": _show}[name]
    found: Callable[[argparse.Namespace], int] = resolve_name(_COMMANDS[name])
    return found


def _run(args: argparse.Namespace, rest: list[str], parser: Parser) -> int:
    given = {key: value for key, value in vars(args).items() if key not in ("command", "help")}
    given |= dotted_options(rest, method=given["method"])
    if args.help:
        from dabench.cli.option_help import add_option_help

        add_option_help(parser, merge(given))
        parser.print_help()
        return 0
    from dabench.config.settings import read_settings
    from dabench.config.spec import resolve
    from dabench.config.switches import check_switches
    from dabench.store.store import Store

    settings = read_settings(given)
    options = merge(given)
    as_json = bool(options.get("json", False))
    # whatever libraries print: stdout is for the JSON alone
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        specs = resolve(given)
        check_switches(options, specs)
        for note in specs[0].tuned.notes if specs[0].tuned else ():
            say(f"note: {note}", error=True)
        Store(settings.results).check_writable()
        results, code = _run_all(specs, settings)
    listed = "seeds" in options if as_json else len(specs) > 1
    if results or (as_json and listed):
        from dabench.cli.run_output import show_results

        show_results(results, Store(settings.results, curves=False), as_json, several=listed)
    return code


def _run_all(specs: list[RunSpec], settings: Settings) -> tuple[list[RunResult], int]:
    """Run every seed; one that fails does not stop the others."""
    from dabench.cli.run_output import never_learned
    from dabench.engine.run import execute

    results, code = [], 0
    for spec in specs:
        try:
            results.append(found := execute(spec, settings, _tell))
            if never_learned(found.record):
                say(
                    f"warning: {spec.method} made no update in run {found.run_id}: its answers are "
                    "those of the source model; a memory may be larger than the stream, or a "
                    "threshold keep every image out",
                    error=True,
                )
            if found.existed and spec.tuned and spec.tuned.mark().keys() - found.record.keys():
                say(
                    f"note: run {found.run_id} was made with these options given by hand; "
                    "its record is not marked 'tuned'",
                    error=True,
                )
        except Exception as error:  # noqa: BLE001 - reported, and the exit code tells
            where = f"seed {spec.seed}: " if len(specs) > 1 else ""
            code = max(code, report_error(error, debug=settings.debug, where=where))
    return results, code


def _tell(stage: str, why: str) -> None:
    """Say what is unusual about a run's record."""
    notes = {
        "unusable": f"warning: {why} (now it is made again)",
        "waits": f"note: {why}; waiting for its record",
        "differs": f"warning: {why}",
    }
    if stage in notes:
        say(notes[stage], error=True)


def _list(args: argparse.Namespace) -> int:
    if args.what == "streams":
        from dabench.cli.stream import list_streams

        return list_streams()
    for title, table in (
        ("methods", registry.METHODS),
        ("protocols", registry.PROTOCOLS),
        ("data sets", registry.DATASETS),
    ):
        if args.what not in (None, title.replace(" ", "-")):
            continue
        say(f"{title}:")
        rows = [[f"  {name}", found.summary] for name, found in sorted(table.items())]
        kind = title.removesuffix("s")
        rows += [
            [f"  {name}", f"plug-in of {found.distribution} ({found.target})"]
            for name, found in announced.usable(kind).items()
        ]
        print_columns(rows)
    for problem in announced.problems():
        say(f"warning: {problem}", error=True)
    return 0


def _show(args: argparse.Namespace) -> int:
    from dabench.cli.run_output import show_record
    from dabench.store.reading import load_record
    from dabench.store.store import Store

    path = Store(Path(args.results)).locate(args.run)
    show_record(path, load_record(path), args.json)
    return 0
