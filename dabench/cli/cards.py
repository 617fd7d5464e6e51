"""``dabench cards``: published figures, their set-up, and what was measured here."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from dabench.cli.output import print_columns, say, warn_of_damage
from dabench.errors import ConfigError, did_you_mean


def add_options(cards: argparse.ArgumentParser) -> None:
    """Add what the command knows."""
    cards.add_argument("card", metavar="CARD", nargs="?", help="all of one; default: a line each")
    text = "write the page of all cards, as docs/reproduction.md"
    cards.add_argument("--markdown", metavar="FILE", help=text)


def cards(args: argparse.Namespace) -> int:
    """Print the cards of RESULTS/cards beside the records, or write their page.

    Raises:
        ConfigError: a card that is not sound, or no card of that name.
        StoreError: the page cannot be written.
    """
    from dabench.board.tables.card_figures import described, figure_of, lines_of, markdown
    from dabench.board.tables.cards import read_cards
    from dabench.store.files import write_bytes_atomically
    from dabench.store.records import Record
    from dabench.store.store import Store

    results = Path(args.results)
    known = read_cards(results / "cards")
    chosen = [card for card in known if args.card in (None, card.name)]
    if not chosen:
        names = [card.name for card in known]
        raise ConfigError(f"no card '{args.card}'{did_you_mean(args.card, names)}")
    store = Store(results, curves=False)

    @cache
    def records(protocol: str, dataset: str) -> list[Record]:
        found = [record for _, record in store.read(protocol, dataset)]
        warn_of_damage(store.problems, strict=False)
        return found

    pairs = [
        (card, figure_of(card, records(card.run["protocol"], card.run["dataset"])))
        for card in chosen
    ]
    if args.card is not None:
        ((card, ours),) = pairs
        print_columns([[name, text] for name, text in described(card, ours)])
        for line in card.commands:
            say(line)
    elif args.markdown is None:
        print_columns(lines_of(pairs))
    if args.markdown is not None:
        write_bytes_atomically(Path(args.markdown), markdown(pairs).encode())
        say(f"written: {args.markdown}")
    return 0
