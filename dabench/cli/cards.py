"""``dabench cards``: published figures, their set-up, and what was measured here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dabench.cli.output import print_columns, say, warn_of_damage
from dabench.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from dabench.board.tables.card_figures import Figure
    from dabench.board.tables.cards import Card
    from dabench.store.records import Record


def add_options(cards: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    cards.add_argument("card", metavar="CARD", nargs="?", help="all of one; default: a line each")
    text = "write the page of all cards, as docs/reproduction.md"
    cards.add_argument("--markdown", metavar="FILE", help=text)


def cards(args: argparse.Namespace) -> int:
    """Print the cards of RESULTS/cards beside the records, or write their page.

    Where none lie there, those of ./results are taken: records apart need no copy of the cards.

    Raises:
        ConfigError: a card that is not sound, or no card of that name.
        StoreError: the page cannot be written.
    """
    from dabench.board.tables.card_figures import described, lines_of, markdown, said_of_others
    from dabench.board.tables.cards import methods_without, read_cards
    from dabench.store.files import write_bytes_atomically

    results = Path(args.results)
    own, usual = results / "cards", Path("results", "cards")
    known = read_cards(usual if usual.is_dir() and not own.is_dir() else own)
    chosen = [card for card in known if args.card in (None, card.name)]
    if not chosen:
        names = [card.name for card in known]
        raise ConfigError(f"no card '{args.card}'{did_you_mean(args.card, names)}")
    pairs, others = measured(chosen, results), methods_without(known)
    if args.card is not None:
        ((card, ours),) = pairs
        print_columns([[name, text] for name, text in described(card, ours)])
        for line in card.commands:
            say(line)
    elif args.markdown is None:
        print_columns(lines_of(pairs))
        if others:
            say(said_of_others(others))
    if args.markdown is not None:
        write_bytes_atomically(Path(args.markdown), markdown(pairs, others).encode())
        say(f"written: {args.markdown}")
    return 0


def measured(chosen: Sequence[Card], results: Path) -> list[tuple[Card, Figure | None]]:
    """Return cards with our figures, looked up in the records; damaged ones are named.

    Raises:
        ConfigError: a card names a run that is not there, or options that are none.
    """
    from dabench.board.tables.card_figures import figure_of
    from dabench.store.store import Store

    store = Store(results, curves=False)

    @cache
    def records(protocol: str, dataset: str) -> list[Record]:
        found = [record for _, record in store.read(protocol, dataset)]
        warn_of_damage(store.problems, strict=False)
        return found

    return [
        (card, figure_of(card, records(card.run["protocol"], card.run["dataset"])))
        for card in chosen
    ]
