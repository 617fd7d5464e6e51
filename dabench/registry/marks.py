"""Names that a record has among its ``extras`` beside what a method declared."""

from __future__ import annotations

#: the protocol handed labels of the target to the method
TARGET_LABELS = "target-labels"
#: the method answered a stream after its own update, which is a setting of its own
ANSWERS_AFTER = "answers-after"
#: in place of the source model it was handed the column's linear probe
FROZEN_TRUNK = "frozen-trunk"
