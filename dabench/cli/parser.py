"""The commands and options that the command line knows (argparse, exact names only)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import NoReturn

from dabench import __version__
from dabench.cli import cards, diff, leaderboard, many_runs, new, store, stream, submit, verify
from dabench.cli.dotted import SERVED
from dabench.config.options import FLAGS, OPTIONS
from dabench.errors import ConfigError

COMMANDS = {
    "run": "run one method under one protocol",
    "sweep": "run a grid: methods, protocols, data sets, tasks, seeds, options",
    "tune": "choose options on development shifts, with as many trials for every method",
    "list": "list methods, protocols, data sets and streams, and those of installed packages",
    "new": "write a method's file and its test, to start from",
    "adapt": "adapt your model to your images, without labels",
    "export": "write a kept model as model.onnx",
    "check": "try what a method promises: no label read, same seed same bytes, ...",
    "show": "show one run's spec, environment and scores",
    "data": "check a data set's folder, or print its card",
    "cards": "published figures, their set-up, and what was measured here",
    "verify": "are files and model the published ones? their rows against yours",
    "leaderboard": "make the table of all records",
    "reproduce": "run a record's spec again and report the difference",
    "diff": "say why two runs are (not) comparable, and how their scores differ",
    "report": "write one run's report as a page that needs no network",
    "submit": "check records that are to join others, and write what a pull request needs",
    "store": "take records out of the tables (retire), or pack their predictions (pack)",
    "serve-source": "answer others over HTTP with a source model (black-box adaptation)",
    "stream": "draw a stream: domain and class over time",
    "weather": "list the kinds of weather, or draw a contact sheet of them",
}


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are ``ConfigError``s: one line, no usage dump."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def build_parsers() -> tuple[Parser, Parser]:
    """Return the whole parser and the one of ``run``."""
    parser = Parser(
        prog="dabench",
        allow_abbrev=False,
        description="Benchmarks of domain adaptation without the source data.",
        epilog="example: dabench run --method usd --protocol sf-osda",
    )
    parser.add_argument("--version", action="version", version=f"dabench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    run = commands.add_parser("run", allow_abbrev=False, add_help=False, help=COMMANDS["run"])
    _add_run_options(run)
    others = {
        name: commands.add_parser(name, allow_abbrev=False, help=text)
        for name, text in COMMANDS.items()
        if name != "run"
    }
    for other in others.values():
        other.add_argument("--debug", action="store_true", help=FLAGS["debug"])
    for name in ("show", "cards", "leaderboard", "diff", "report", "store"):
        others[name].add_argument("--results", default="results", help=OPTIONS["results"][2])
    others["show"].add_argument("run", metavar="RUN", help="a run id, its beginning, or a path")
    others["show"].add_argument("--json", action="store_true", help="print the record itself")
    leaderboard.add_options(others["leaderboard"])
    cards.add_options(others["cards"])
    diff.add_options(others["diff"])
    _add_check_options(others["check"])
    _add_adapt_options(others["adapt"])
    new.add_options(others["new"])
    store.add_options(others["store"])
    submit.add_options(others["submit"])
    verify.add_options(others["verify"])
    text = "what 'dabench adapt' or 'dabench run --save-model' left"
    others["export"].add_argument("folder", metavar="DIR", help=text)
    others["data"].add_argument("action", choices=("check", "info"))
    others["data"].add_argument("name", metavar="NAME", help="name of the data set")
    for name in ("data-root", "cache-dir"):
        others["data"].add_argument(f"--{name}", help=OPTIONS[name][2])
    text = "with 'check': read all of the set's cached pictures, and remove what is damaged"
    others["data"].add_argument("--verify", action="store_true", help=text)
    _add_page_options(others["leaderboard"], others["report"])
    _add_serve_options(others["serve-source"])
    many_runs.add_sweep_options(others["sweep"])
    many_runs.add_tune_options(others["tune"])
    _add_reproduce_options(others["reproduce"])
    _add_weather_options(others["weather"])
    stream.add_options(others["stream"])
    kinds = ("methods", "protocols", "data-sets", "streams")
    others["list"].add_argument("what", nargs="?", choices=kinds, help="default all but streams")
    return parser, run


def _add_run_options(run: Parser) -> None:
    run.add_argument("-h", "--help", action="store_true", help="with --method: its options too")
    _add_common(run, OPTIONS)
    for name, text in FLAGS.items():
        run.add_argument(f"--{name}", dest=name, action="store_true", help=text)
    run.epilog = (
        "Hyper-parameters are given as --method.NAME VALUE, options of the protocol as "
        "--protocol.NAME VALUE; 'dabench run --method M --help' shows them."
    )


def _add_common(parser: Parser, names: Iterable[str]) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML file with lines like 'epochs: 10'")
    for name in names:
        kind = name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", dest=name, metavar=kind, help=OPTIONS[name][2])


def _add_check_options(check: Parser) -> None:
    check.add_argument("method", metavar="METHOD", help="file.py:Class, module:Class, or a name")
    text = "default: those that it serves, and of the streams of classification one"
    check.add_argument("--protocols", metavar="A,B", help=text)
    check.add_argument("--threads", default="1", help="CPU threads; default 1")
    check.add_argument("--cache-dir", dest="cache-dir", help=OPTIONS["cache-dir"][2])
    check.epilog = "Hyper-parameters are given as --method.NAME VALUE."


def _add_adapt_options(adapt: Parser) -> None:
    kinds = "a source-free or black-box method, or one for streams"
    adapt.add_argument("--method", required=True, help=kinds)
    for name in (
        *("source-model", "source-checkpoint", "source-head", "source-mean", "source-std"),
        *("oracle-url", "cache-dir"),
    ):
        own = {"oracle-url": "address of a served model that only answers (black-box methods)"}
        adapt.add_argument(f"--{name}", dest=name, help=own.get(name, OPTIONS[name][2]))
    text = "network that a black-box method trains (small-cnn, torchvision, timm)"
    adapt.add_argument("--backbone", dest="backbone", help=text)
    text = "its weights: none | pretrained | PATH; default pretrained where there are such"
    adapt.add_argument("--weights", dest="weights", help=text)
    text = "pictures, at any depth; or a list of them"
    adapt.add_argument("--images", required=True, metavar="DIR", help=text)
    adapt.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    adapt.add_argument("--classes", metavar="A,B", help="or a file, a name per line; else numbers")
    adapt.add_argument("--open-set", action="store_true", help="some may be of none of the classes")
    adapt.add_argument("--init", choices=("source", "bn-target"), help=OPTIONS["init"][2])
    for name, text in (
        ("epochs", "10"),
        ("batch-size", "64"),
        ("image-size", "224, or what --oracle-url says"),
        ("seed", "0"),
    ):
        adapt.add_argument(f"--{name}", dest=name, help=f"default {text}")
    adapt.add_argument("--threads", help="CPU threads; default 1")
    adapt.add_argument("--device", default="auto", help=OPTIONS["device"][2])
    adapt.add_argument("--no-flip", action="store_true", help="mirrored images are other classes")
    adapt.add_argument("--export", choices=("onnx",), help="write model.onnx as well")
    adapt.add_argument("--strict", action="store_true", help="stop at a file that cannot be read")
    adapt.add_argument("--no-progress", action="store_true", help=FLAGS["no-progress"])
    adapt.epilog = "Hyper-parameters are given as --method.NAME VALUE."


def _add_serve_options(serve: Parser) -> None:
    _add_common(serve, SERVED)
    serve.add_argument(
        "--no-progress", dest="no-progress", action="store_true", help=FLAGS["no-progress"]
    )
    serve.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    serve.add_argument("--port", default="8765", help="default 8765; 0 = one that is free")
    serve.add_argument(
        "--token", help="of the clients; default $DABENCH_ORACLE_TOKEN, or a new one is printed"
    )
    serve.epilog = "Options of the protocol, as --protocol.answers, are given as with 'run'."


def _add_reproduce_options(reproduce: Parser) -> None:
    reproduce.add_argument("run", metavar="RUN", help="a run id, its beginning, or a record's path")
    for name in ("results", "threads", "device", "data-root", "cache-dir", "oracle-url"):
        text = {
            "results": "folder of the results that hold the run; default ./results",
            "threads": "CPU threads; default those of the record",
            "device": "default that of the record",
        }.get(name, OPTIONS[name][2])
        kind = name.upper().replace("-", "_")
        reproduce.add_argument(f"--{name}", dest=name, metavar=kind, help=text)
    text = FLAGS["no-progress"]
    reproduce.add_argument("--no-progress", dest="no-progress", action="store_true", help=text)


def _add_page_options(table: Parser, report: Parser) -> None:
    table.add_argument(
        "--html", metavar="DIR", help="write DIR/index.html, one page that needs no network"
    )
    table.add_argument(
        "--only",
        metavar="COLUMN",
        default="",
        help="with --html: columns whose key begins so: sf-osda, sf-osda/digits ...",
    )
    report.add_argument("run", metavar="RUN", help="a run id, its beginning, or a path")
    report.add_argument(
        "--html", metavar="FILE", nargs="?", help="default RESULTS/runs/RUN/report/index.html"
    )
    report.add_argument(
        "--features",
        nargs="?",
        const="pca",
        choices=("pca", "tsne"),
        help="draw features by class before and after adaptation (a run with --save-model)",
    )
    report.add_argument(
        "--animate",
        nargs="?",
        const="",
        metavar="FILE",
        help="draw a stream as a .webp or .gif; default RESULTS/runs/RUN/report/stream.webp",
    )
    for name in ("data-root", "cache-dir"):
        report.add_argument(f"--{name}", dest=name, metavar="DIR", help=OPTIONS[name][2])


def _add_weather_options(weather: Parser) -> None:
    weather.add_argument("action", choices=("preview", "list"))
    weather.add_argument("--image", metavar="FILE", help="default: a photograph of scikit-learn's")
    weather.add_argument("--kinds", metavar="A,B", help="default: all of 'dabench weather list'")
    weather.add_argument("--size", default="160", help="side of each picture (default 160 pixels)")
    weather.add_argument("--seed", default="0", help="default 0")
    weather.add_argument("--out", default="weather.png", metavar="FILE", help="a PNG or WebP")
