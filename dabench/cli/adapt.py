"""``dabench adapt``: your model, your images, no labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.cli.dotted import dotted_options
from dabench.cli.output import say
from dabench.errors import ConfigError, one_line


def adapt(args: argparse.Namespace, rest: list[str]) -> int:
    """Adapt a model to a folder of images, and write what it says of them; return 0.

    Args:
        args: what the parser of ``adapt`` found.
        rest: arguments that it does not know (``--method.NAME VALUE``).

    Raises:
        DabenchError: a model, images, a method or an option that do not fit.
    """
    dotted = dotted_options(rest, "adapt")
    given = {key: value for key, value in vars(args).items() if value is not None}
    name = registry.name_of("method", args.method)

    import torch

    from dabench.config.hardware import resolve_device
    from dabench.config.options import merge
    from dabench.config.spec import usual_init
    from dabench.contract.method import OfflineMethod
    from dabench.deploy import offline, saved
    from dabench.deploy.pictures import read_pictures
    from dabench.deploy.report import warnings_of, write_report
    from dabench.source_models.foreign import ForeignModel

    numbers = ("epochs", "batch-size", "image-size", "seed", "threads")
    numbered = merge({key: given[key] for key in numbers if key in given})
    torch.set_num_threads(numbered.get("threads", 1))
    cls = registry.method(name)
    reference = args.source_model
    plugin = registry.located("model", reference) if ":" in reference else None
    model = ForeignModel(
        plugin.name if plugin else reference,
        *(args.source_checkpoint, args.source_head, args.source_mean, args.source_std),
        plugin,
    )
    classes = _classes(args.classes)
    options = {key.removeprefix("method.").replace("-", "_"): v for key, v in dotted.items()}
    size = numbered.get("image-size", 224)
    offline_method = issubclass(cls, OfflineMethod)
    out = Path(args.out)
    saved.check_free(out)
    pile = read_pictures(Path(args.images), size, hashed=offline_method, strict=args.strict)
    say(f"{len(pile.names)} images of {size} px; {len(pile.unreadable)} could not be read")
    network, _ = model.wrap(len(classes) if classes else None, (size, size))
    usual: dict[str, Any] = {"batch_size": numbered.get("batch-size", 64), "flip": not args.no_flip}
    usual |= {"seed": numbered.get("seed", 0)}
    if offline_method:
        usual |= {"epochs": numbered.get("epochs", 10), "open_set": args.open_set}
        usual |= {
            "init": args.init or usual_init(cls, "pretrained"),
            "progress": not args.no_progress,
        }
        usual |= {"device": resolve_device(args.device)}
    everything: dict[str, Any] = usual | options
    adapted = offline.adapt(network, pile.images, cls, classes=classes, **everything)

    def write(folder: Path) -> None:
        saved.write_predictions(folder / saved.ANSWERS, adapted, pile)
        facts = [("method", name), ("model", model.named), ("image size", size)]
        facts += [*usual.items(), *options.items()]
        (folder / "report.html").write_bytes(write_report(adapted, pile, name, facts))
        if adapted.network is not None:
            about = {"method": name, "image_size": size, "adaptation": usual}
            saved.save_model(folder, adapted, model, about)

    saved.write_all(out, write)
    changed = float((adapted.before.known != adapted.after.known).mean())
    say(f"{changed:.1%} of the answers changed; nothing here was measured against labels")
    for warning in warnings_of(adapted):
        say(f"warning: {warning}", error=True)
    say(f"wrote {out / saved.ANSWERS} and {out / 'report.html'}")
    if adapted.network is not None:
        say(f"wrote {out / saved.WEIGHTS}; dabench.load_model('{out}') reads it")
    return 0


def _classes(text: str | None) -> list[str] | None:
    """Read ``a,b,c``, or a file with a name a line."""
    if text is None:
        return None
    path = Path(text)
    if "," not in text and path.is_file():
        try:
            names = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"--classes {one_line(text, 200)}: cannot be read") from None
    else:
        names = text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"--classes {one_line(text, 200)}: expected two or more different names with commas "
            "between, or a file with a name a line"
        )
    return names
