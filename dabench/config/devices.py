"""``--devices N``: how many devices train a source model together."""

from __future__ import annotations

from typing import Any

from dabench import registry
from dabench.config.hardware import available_gpus
from dabench.errors import ConfigError


def several_devices(given: dict[str, Any], protocol: str, *, here: bool) -> dict[str, Any]:
    """Return the options without ``devices`` where it is 1, which is as if nobody had named it.

    Args:
        given: options by name.
        protocol: its name.
        here: whether they are devices of this machine.

    Raises:
        ConfigError: several of them where nothing is trained so, or more than there are.
    """
    if "devices" not in given:
        return given
    if given["devices"] == 1:
        return {name: value for name, value in given.items() if name != "devices"}
    head = f"--devices {given['devices']}"
    if registry.kind_of(protocol) == "segmentation":
        raise ConfigError(
            f"{head}: the source model of {protocol} segments, and such models are trained on one "
            "device; leave it out"
        )
    if given.get("protocol.oracle") == "http":
        raise ConfigError(
            f"{head}: with --protocol.oracle http the source model was trained elsewhere; give it "
            "to 'dabench serve-source', and leave it out here"
        )
    if here:
        check_devices(given["devices"], given.get("device", "auto"))
    return given


def check_devices(devices: int, device: str) -> None:
    """Refuse more devices than this machine has; on a CPU each is a process.

    Raises:
        ConfigError: says how many GPUs there are.
    """
    if devices == 1 or device == "cpu":
        return
    head = f"--devices {devices}"
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"{head}: --device {device} names one, or no GPU of CUDA; give --device cuda for the "
            f"first {devices} GPUs, or --device cpu for {devices} processes"
        )
    if devices > (there := available_gpus()):
        fewer = f"give {there} or fewer" if there > 1 else "leave it out"
        raise ConfigError(
            f"{head}: torch sees {there} GPU{'s' * (there != 1)} here; {fewer}, or give --device "
            f"cpu for {devices} processes"
        )
