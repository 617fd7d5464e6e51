"""A reproduction card as a page shows it: a line of the table, and all that the card says."""

from __future__ import annotations

from dataclasses import dataclass

from dabench.board.tables.card_figures import Figure, described, lines_of
from dabench.board.tables.cards import Card


@dataclass(frozen=True)
class CardEntry:
    """A card's texts.

    Attributes:
        name: of the card.
        line: benchmark, metric, published, ours, gap, and what there is to say.
        facts: name and text of everything else.
        commands: one for each task.
        measured: whether there are runs of it here.
    """

    name: str
    line: list[str]
    facts: list[tuple[str, str]]
    commands: list[str]
    measured: bool

    @property
    def anchor(self) -> str:
        """A name for links within the page."""
        return "card-" + self.name


def card_entry(card: Card, ours: Figure | None) -> CardEntry:
    """Return the texts of a card."""
    _, (name, *line) = lines_of([(card, ours)])
    benchmark, metric, published, own, gap, state = line
    figures = [published, own, gap.replace("-", "−") if own != "-" else gap]
    shown = ["–" if text == "-" else text for text in figures]
    shown = [benchmark, metric, *shown, state]
    return CardEntry(name, shown, described(card, ours), card.commands, ours is not None)
