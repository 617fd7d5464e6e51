"""``dabench serve-source``: train or load a source model here and answer others over HTTP."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
from typing import TYPE_CHECKING, Any

from dabench import registry
from dabench.cli.dotted import dotted_options
from dabench.cli.output import say
from dabench.config.command import changed_protocol_options
from dabench.config.options import as_argument, is_number, merge
from dabench.config.settings import Settings, read_settings
from dabench.config.spec import RunSpec, resolve
from dabench.errors import ConfigError, one_line

if TYPE_CHECKING:
    from dabench.oracle.in_process import InProcess

DEFAULT_PROTOCOL = "bb-uda"


def serve_source(args: argparse.Namespace, rest: list[str]) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        args: what the parser of ``serve-source`` found.
        rest: arguments that it does not know (``--protocol.NAME VALUE``).

    Raises:
        DabenchError: an option that does not fit, missing data, a port in use.
    """
    dotted = dotted_options(rest, "serve-source")
    for name in dotted:
        if name.startswith("method."):
            raise ConfigError(f"--{name}: serve-source serves a source model and runs no method")
    own = ("command", "help", "host", "port", "token")
    given = {key: value for key, value in vars(args).items() if key not in own} | dotted
    port = _port(args.port)

    from dabench.oracle.server import (
        serve,  # first: a missing package is said before anything is trained
    )

    spec, settings = _spec(given), read_settings(given)
    token = args.token or os.environ.get("DABENCH_ORACLE_TOKEN")
    answerer = load_source_model(spec, settings)
    if not token:
        token = secrets.token_urlsafe(24)
        say(f"token (clients set DABENCH_ORACLE_TOKEN to it): {token}", error=True)
    if args.host not in ("127.0.0.1", "::1", "localhost"):
        say("warning: plain HTTP; put a TLS proxy before it on open networks", error=True)
    info = answerer.info

    def ready(url: str) -> None:
        known = "" if info.val_accuracy is None else f", accuracy {info.val_accuracy:.3f}"
        say(
            f"source model {info.id[:8]} ({info.form} answers, {len(info.classes)} classes{known}) "
            f"at {url}; Ctrl-C ends it"
        )
        say(f"clients: {_client_command(spec, url)}")
        say(f"or, on own images: {_images_command(spec, url)}")
        sys.stdout.flush()

    try:
        serve(answerer, args.host, port, token, ready=ready)
    except KeyboardInterrupt as stop:
        stop.add_note("the source model is served no longer")
        raise
    return 0


def _spec(given: dict[str, Any]) -> RunSpec:
    """Resolve the options as ``run`` does; a file may be that of a run, with a method in it."""
    options = {k: v for k, v in merge(given).items() if not k.startswith("method.")}
    specs = resolve({"protocol": DEFAULT_PROTOCOL} | options | {"method": "source"})
    if len(specs) > 1:
        raise ConfigError("--seeds: one source model is served; give one --seed or --source-seed")
    return specs[0]


def _client_command(spec: RunSpec, url: str) -> str:
    """Return a run that asks what is served, with the form of its answers."""
    asked = getattr(registry.protocol(spec.protocol), "black_box", False)
    asks = spec.protocol if asked else DEFAULT_PROTOCOL
    method = "cabb" if asks == DEFAULT_PROTOCOL else "sd-shot"  # cabb knows no unknown images
    words = ["dabench", "run", "--method", method, "--protocol", asks]
    words += ["--dataset", spec.dataset, "--source", spec.source, "--target", spec.target]
    words += ["--image-size", str(spec.image_size), "--protocol.oracle", "http"]
    for name, value in (changed_protocol_options(spec) if asked else {}).items():
        if name != "oracle":  # where the model was to be for this command
            words += [f"--protocol.{name}", as_argument(value)]
    return shlex.join([*words, "--oracle-url", url])


def _images_command(spec: RunSpec, url: str) -> str:
    """Return an adaptation to images of the client's by what is served."""
    # where the run has no network but the served model, any other will do
    backbone = "resnet18" if spec.backbone == spec.source_model else spec.backbone
    words = ["dabench", "adapt", "--method", "cabb", "--images", "DIR", "--out", "adapted"]
    return shlex.join([*words, "--backbone", backbone, "--oracle-url", url])


def _port(text: str) -> int:
    if not (is_number(text, whole=True) and 0 <= int(text) < 2**16):
        raise ConfigError(
            f"--port {one_line(text, 60)}: expected 0 to 65535 (0 = one that is free)"
        )
    return int(text)


def load_source_model(spec: RunSpec, settings: Settings) -> InProcess:
    """Return the source model of a run of ``spec``, in this process.

    Raises:
        DabenchError: missing data, a protocol that cannot use them, a damaged cache.
    """
    import torch

    from dabench.engine.setup.parts import load_plan
    from dabench.oracle.answer_forms import AnswerForm
    from dabench.oracle.in_process import InProcess
    from dabench.source_models.foreign import ForeignModel
    from dabench.source_models.recipes import source_recipe
    from dabench.source_models.source import load_source

    torch.set_num_threads(spec.threads)
    options = spec.protocol_options
    form = AnswerForm(
        options.get("answers", "soft"), options.get("top_k", 3), options.get("decimals", 2)
    )
    spec, _, _, plan = load_plan(spec, settings)
    model = load_source(
        ForeignModel.of_spec(spec),
        # as a black-box protocol would: another head is another model
        source_recipe(spec, black_box=True),
        plan,
        spec.training_seed,
        settings.cache_dir,
        spec.device,
        settings.progress,
    )
    return InProcess(model, plan.task.classes, plan.task.image_size, form, spec.device)
