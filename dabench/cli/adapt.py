"""``dabench adapt``: your model, your images, no labels."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench import registry
from dabench.cli.dotted import method_options
from dabench.cli.output import say
from dabench.errors import ConfigError, one_line, reason_of

if TYPE_CHECKING:
    from dabench.deploy.adapted import Adapted
    from dabench.deploy.pictures import Pile
    from dabench.source_models.foreign import ForeignModel

_OF_MODEL = ("source-checkpoint", "source-head", "source-mean", "source-std")
_OF_NETWORK = ("backbone", "weights")
_NUMBERS = ("epochs", "batch-size", "image-size", "seed", "threads")


@dataclass(frozen=True)
class _Asked:
    """What is adapted: a model of the user's, or one that answers elsewhere."""

    model: Any
    foreign: ForeignModel | None
    classes: list[str] | None
    size: int
    #: stands for the model's code, head, mean and std
    code: str


def adapt(args: argparse.Namespace, rest: list[str]) -> int:
    """Adapt a model to a folder of images, and write what it says of them; return 0.

    Args:
        args: what the parser of ``adapt`` found.
        rest: arguments that it does not know (``--method.NAME VALUE``).

    Raises:
        DabenchError: a model, images, a method or an option that do not fit.
    """
    options = method_options(rest, "adapt", args.method)
    given = {key: value for key, value in vars(args).items() if value is not None}
    name = registry.name_of("method", args.method)
    _check_model_options(given)

    import torch

    from dabench.config.options import merge
    from dabench.contract.method import OfflineMethod
    from dabench.deploy import black_box, offline, onnx_file, saved, stream
    from dabench.deploy.adapted import method_class
    from dabench.deploy.pictures import read_pictures

    given |= merge({key: given[key] for key in _NUMBERS if key in given})
    torch.set_num_threads(given.get("threads", 1))
    cls = method_class(name)
    fits = issubclass(cls, OfflineMethod)
    if args.export:
        onnx_file.check_installed()
        if not fits:
            raise ConfigError(f"--export: {name} answers a stream, and leaves no model")
    if "oracle-url" in given:
        offline.only_answers(cls, None)  # before anybody needs a token
    asked = _asked(args, given)
    remote = offline.only_answers(cls, asked.model)
    if args.export and ((remote and not cls.trains) or not cls.keeps_network):
        raise ConfigError(f"--export: {name} leaves no network of its own behind; leave it out")
    usual = _usual(args, given, cls)
    own = black_box.TargetNetwork(given.get("backbone"), given.get("weights"))
    offline.check_asked(
        *(cls, asked.model, options, own),
        open_set=args.open_set,
        init=args.init,
        classes=asked.classes,
        side=asked.size,
    )
    with saved.workplace(Path(args.out)) as (out, work):
        pile = read_pictures(Path(args.images), asked.size, hashed=fits, strict=args.strict)
        say(
            f"{len(pile.names)} images of {asked.size} px; {len(pile.unreadable)} could not be read"
        )
        for line in pile.left_out:
            say(line)
        key = f"{asked.code} {torch.get_num_threads()}"
        kept: dict[str, Any] = {"work": stream.Work(work, key, say)}
        if remote:
            kept = {name: given[name] for name in _OF_NETWORK if name in given}
            kept |= {"cache_dir": _cache_dir(given)} if asked.foreign is None else {}
        everything: dict[str, Any] = usual | options | {"progress": not args.no_progress}
        adapted = offline.adapt(
            asked.model, pile.images, cls, classes=asked.classes, **kept, **everything
        )
        facts = [("method", name), ("image size", asked.size), *usual.items(), *options.items()]
        facts.insert(1, ("model", asked.foreign.named if asked.foreign else given["oracle-url"]))
        about = {"method": name, "image_size": asked.size, "adaptation": usual}
        failed = saved.publish(
            work, out, lambda draft: _write(draft, adapted, pile, asked, facts, about, args.export)
        )
    _tell(adapted, out)
    if failed is not None:
        raise failed
    return 0


def _check_model_options(given: dict[str, Any]) -> None:
    """Refuse a command without a model, with two of them, or with parts of one that is not there.

    Raises:
        ConfigError: says which.
    """
    if ("source-model" in given) == ("oracle-url" in given):
        raise ConfigError("give --source-model, or --oracle-url for one that answers elsewhere")
    if "oracle-url" in given and (first := next((n for n in _OF_MODEL if n in given), None)):
        raise ConfigError(
            f"--{first} belongs to --source-model; the model of --oracle-url is ready"
        )


def _asked(args: argparse.Namespace, given: dict[str, Any]) -> _Asked:
    """Return the model; one of the user's is tried on noise of the images' size."""
    from dabench.config.own_model import located_model
    from dabench.source_models.foreign import ForeignModel

    classes = _classes(args.classes)
    if "oracle-url" in given:
        from dabench.oracle.http import Http

        oracle = Http(given["oracle-url"], os.environ.get("DABENCH_ORACLE_TOKEN", ""))
        return _Asked(oracle, None, classes, given.get("image-size", oracle.info.image_size), "")
    reference = given["source-model"]
    plugin = located_model(reference)
    named = plugin.name if plugin else reference
    parts = {name.removeprefix("source-"): given.get(name) for name in _OF_MODEL}
    foreign = ForeignModel(named, **parts, plugin=plugin)
    size = given.get("image-size", 224)
    network, code = foreign.wrap(len(classes) if classes else None, (size, size))
    return _Asked(network, foreign, classes, size, code)


def _usual(args: argparse.Namespace, given: dict[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Return the arguments that every method of a kind has, filled in."""
    from dabench.config.hardware import resolve_device
    from dabench.config.spec import usual_init
    from dabench.contract.method import OfflineMethod

    found: dict[str, Any] = {"batch_size": given.get("batch-size", 64), "flip": not args.no_flip}
    found |= {"seed": given.get("seed", 0)}
    if issubclass(cls, OfflineMethod):
        found |= {"epochs": given.get("epochs", 10), "open_set": args.open_set}
        found |= {"init": args.init or usual_init(cls, "pretrained")}
    elif "epochs" in given:
        raise ConfigError(f"--epochs: {registry.called(cls)} answers a stream, once; leave it out")
    found["device"] = resolve_device(args.device)
    return found


def _cache_dir(given: dict[str, Any]) -> Path:
    from dabench.config.settings import read_settings

    return read_settings({name: given[name] for name in ("cache-dir",) if name in given}).cache_dir


def _write(
    folder: Path,
    adapted: Adapted,
    pile: Pile,
    asked: _Asked,
    facts: list[tuple[str, Any]],
    about: dict[str, Any],
    export: str | None,
) -> ConfigError | None:
    """Fill the folder; return why weights or an export are missing, which costs nothing else."""
    from dabench.deploy import onnx_file, saved
    from dabench.deploy.report import write_report
    from dabench.source_models.model_files import CARD, WEIGHTS, save_model

    saved.write_predictions(folder / saved.ANSWERS, adapted, pile)
    page = write_report(adapted, pile, about["method"], [*facts, *adapted.about.items()])
    (folder / "report.html").write_bytes(page)
    if adapted.network is None:
        none = ConfigError(
            "--export: the method leaves no network; predictions and report are whole"
        )
        return none if export else None
    foreign = None if adapted.about else asked.foreign
    try:
        save_model(folder, adapted.network, adapted.classes, foreign, about | adapted.about)
    except Exception as error:  # noqa: BLE001 - a network is a user's code, or a method's
        for name in (WEIGHTS, CARD):
            (folder / name).unlink(missing_ok=True)
        return ConfigError(
            f"the adapted model cannot be kept ({type(error).__name__}: {reason_of(error)}); "
            "predictions and report are whole"
        )
    if export:
        try:
            onnx_file.export_onnx(folder)
        except ConfigError as error:
            return error
    return None


def _tell(adapted: Adapted, out: Path) -> None:
    from dabench.deploy import saved
    from dabench.deploy.report import warnings_of

    after = adapted.after.decided(len(adapted.classes))
    changed = float((adapted.before.known != after).mean())
    say(f"{changed:.1%} of the answers changed; nothing here was measured against labels")
    for warning in warnings_of(adapted):
        say(f"warning: {warning}", error=True)
    say(f"wrote {out / saved.ANSWERS} and {out / 'report.html'}")
    if (out / "model.safetensors").is_file():
        say(f"wrote {out / 'model.safetensors'}; dabench.load_model('{out}') reads it")
    if (out / "model.onnx").is_file():
        say(f"wrote {out / 'model.onnx'}")


def _classes(text: str | None) -> list[str] | None:
    """Read ``a,b,c``, or a file with one name per line."""
    if text is None:
        return None
    path = Path(text)
    if os.path.isfile(path):  # its name may have commas
        try:
            names = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"--classes {one_line(text, 200)}: cannot be read") from None
    elif "," not in text and (path.suffix or "/" in text):
        raise ConfigError(
            f"--classes {one_line(text, 200)}: no such file; give one with a name per line, or the "
            "names themselves with commas between"
        )
    else:
        names = text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"--classes {one_line(text, 200)}: expected two or more different names with commas "
            "between, or a file with one name per line"
        )
    return names
