"""Published corruptions that a stream shows: which of the data set's files it needs."""

from __future__ import annotations

from collections.abc import Sequence

from dabench.contract.data import DomainData, ImageArray
from dabench.contract.stream import Segment
from dabench.datasets.weather.groups import PREFIX
from dabench.errors import ConfigError
from dabench.protocols.streams.shifts import Published


def open_published(data: DomainData, segments: Sequence[Segment]) -> tuple[Published, str]:
    """Open the published corruptions that segments show; nothing is copied.

    Returns:
        The pictures by kind and severity, and a text that tells their content from any other
        (empty where there are none), for the stream's digest.

    Raises:
        ConfigError: the data set has no published corruptions.
        DataError: a file that is missing, or of another form.
    """
    found: dict[tuple[str, int], ImageArray] = {}
    text = ""
    for segment in segments:
        for kind in segment.domain.split("+"):
            key = kind, segment.severity
            if not kind.startswith(PREFIX) or key in found:
                continue
            if data.shifts is None:
                raise ConfigError(
                    f"shift '{kind}:{segment.severity}': {data.dataset} has no published files of "
                    f"'{data.target}'; use cifar10-c, cifar100-c or imagenet-c with its own "
                    f"target, --protocol.shifts clear, or our own c-{kind.removeprefix(PREFIX)}"
                )
            found[key], digest = data.shifts.open(*key)
            text += f", {kind}:{segment.severity} {digest}"
    return found, text
