"""Protocol ``online-seg``: frames arrive one by one, and each is segmented at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.access import Online
from dabench.contract.data import DenseData
from dabench.contract.network import Network
from dabench.contract.protocol import BuildOnline, DensePlan, Outcome, Run
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray, Kind, Task
from dabench.datasets.weather.apply import MIN_SIDE, RENDERING
from dabench.datasets.weather.groups import PUBLISHED_SHIFTS
from dabench.errors import ConfigError
from dabench.protocols.dense import schedules
from dabench.protocols.dense.outcome import Timing
from dabench.protocols.dense.runner import DenseStreamLog, DenseStreamRunner
from dabench.protocols.dense.schedules import Schedule
from dabench.protocols.dense.scores import check_names
from dabench.protocols.streams.runner import check_init
from dabench.protocols.streams.shifts import CLEAR, condition_of, parse_shifts

CONDITIONS = "fog:3,rain:3,low-light:3"


class OnlineSegmentation:
    """One frame at a time, in the order of the frames, under a schedule of weather.

    A seed draws where the order begins (it goes on at the first frame after the last) and the
    weather of every frame. Predictions before and after the update are both scored; one of them
    ranks.

    With several target domains (``--target fog,night``, where a data set has them) each of them is
    a condition, and ``conditions`` has to be ``clear``.

    Args:
        conditions: ``kind:severity`` with commas between; ``fog+rain:3`` mixes kinds frame by
            frame, ``clear`` is the target domain as it is.
        schedule: ``constant``: one condition after the other, a fresh method for each; ``ramp``:
            the same, but in each the severity climbs from 1 while the frames go by; ``cycle``:
            one after the other and round again, and nobody says where one begins.
        rounds: how often a cycle is met.
        timing: whether the predictions after or before the update rank; the other ones' scores
            end in ``/before`` or ``/after``.
        frames: what the stream is made of: the target domain; or the source's validation frames,
            with labels that a deployer has, to choose hyper-parameters on.
    """

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "segmentation"
    primary: ClassVar[str] = "mIoU/mean-conditions"
    grant: ClassVar[type] = Online
    #: extras by name; a ``buffer`` of frames is kept by the method, nothing is handed out
    grants: ClassVar[frozenset[str]] = frozenset({"source-parts", "fisher-images", "buffer"})
    black_box: ClassVar[bool] = False
    online: ClassVar[bool] = True
    #: a batch is one image, whatever the data set's default says
    single: ClassVar[bool] = True

    def __init__(
        self,
        *,
        conditions: str = CONDITIONS,
        schedule: Schedule = "constant",
        rounds: Annotated[int, Field(ge=1)] = 1,
        timing: Timing = "after",
        frames: Literal["target", "source-val"] = "target",
    ) -> None:
        self.conditions = parse_shifts(conditions, "conditions")
        kinds = {kind for segment in self.conditions for kind in segment.domain.split("+")}
        if filed := kinds & {*PUBLISHED_SHIFTS}:
            raise ConfigError(
                f"--protocol.conditions: {min(filed)} is read from files of classified pictures; "
                "use a kind of 'dabench weather list'"
            )
        self.schedule, self.rounds, self.timing = schedule, rounds, timing
        self.frames = frames
        schedules.check_schedule(schedule, self.conditions, rounds)

    def is_valid(self, data: DenseData) -> str | None:
        """Return why these data cannot be used, or None."""
        if data.kind != self.kind:
            return f"its labels are for {data.kind}, one an image; choose frames with dense labels"
        if min(data.image_size, data.width) < MIN_SIDE:
            return f"frames of {data.image_size}x{data.width} px; weather needs {MIN_SIDE} each way"
        return None

    def plan(self, data: DenseData, batch_size: int, seed: int) -> DensePlan:
        """Order the frames and freeze the stream; ``batch_size`` is 1 whatever is given.

        Raises:
            ConfigError: a condition without a frame, or with the name of another score.
        """
        frames = data.target_all if self.frames == "target" else data.source_val
        if self.frames == "target" and data.target_parts:
            found = tuple(self._domains(data, seed))
        else:
            rows = self.frame_order(len(frames.images), seed)
            found = tuple(schedules.segments(self.schedule, self.conditions, self.rounds, rows))
        check_names((self.condition(s) for s, _ in found), data.classes, self.rounds)
        for segment, part in found:
            if not len(part):
                raise ConfigError(
                    f"condition '{segment.name}' has no frame: {data.dataset}/{data.target} has "
                    f"{len(frames.images)}; use --protocol.schedule constant, a lower severity, or "
                    "more frames"
                )
        return DensePlan(
            task=Task(self.kind, data.classes, data.image_size, False, data.flip, width=data.width),
            source=data.source_train,
            source_val=data.source_val,
            frames=frames,
            stream=Stream(found, 1, seed, f"{RENDERING}, drawn by the seed"),
            subsets=data.subsets,
        )

    def _domains(self, data: DenseData, seed: int) -> list[tuple[Segment, IntArray]]:
        """Return a segment a target domain, in every round of a cycle.

        Raises:
            ConfigError: weather over them.
        """
        if [condition.domain for condition in self.conditions] != [CLEAR]:
            raise ConfigError(
                f"--target {data.target}: several domains are conditions themselves; give "
                "--protocol.conditions clear, or one target"
            )
        found, begin = [], 0
        for name, count in data.target_parts:
            found.append((Segment(name, CLEAR), begin + self.frame_order(count, seed)))
            begin += count
        if self.rounds == 1:
            return found
        turns = range(1, self.rounds + 1)
        return [(Segment(f"{s.name}@{turn}", CLEAR), rows) for turn in turns for s, rows in found]

    def frame_order(self, frames: int, seed: int) -> IntArray:
        """Return the frames' positions from where the seed's stream begins."""
        if not frames:
            return np.array([], dtype=np.int64)
        rng = np.random.default_rng(seeding.seed(seed, "stream", "start"))
        return np.roll(np.arange(frames, dtype=np.int64), -int(rng.integers(frames)))

    def condition(self, segment: Segment) -> str:
        """Return the name of a segment's condition, in a ramp that of all its levels."""
        peaks = {peak.domain: peak.severity for peak in self.conditions}
        if self.schedule == "ramp" and segment.severity:
            return f"{segment.domain}-to-{peaks[segment.domain]}"
        return condition_of(segment)

    def round_number(self, segment: Segment) -> int:
        """Return the number of a segment's round, from 1."""
        return int(segment.name.partition("@")[2] or 1)

    def begins_fresh(self, before: Segment, segment: Segment) -> bool:
        """Return whether a fresh method begins between two segments."""
        return self.schedule != "cycle" and self.condition(before) != self.condition(segment)

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """As in ``OnlineProtocol``."""
        check_init(init)

    def run(self, build: BuildOnline, plan: DensePlan, source: Network, run: Run) -> Outcome:
        """Push the whole stream, and score.

        Raises:
            AccessError: the method needs something that this protocol does not grant, or does not
                serve segmentation.
            ConfigError: ``--init bn-target``, which would look at the stream in advance.
            CacheError: a checkpoint of another run.
            DataError: labels that do not fit their frame or the classes.
        """
        check_init(run.init)
        runner = DenseStreamRunner(self, build, plan, source, run, DenseStreamLog())
        runner.run()
        return runner.outcome()
