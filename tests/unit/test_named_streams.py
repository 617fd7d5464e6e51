"""Named streams: quotas, slots, stationary shares, and the same bytes for the same seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dabench.config.spec import resolve
from dabench.contract.stream import Segment, Stream
from dabench.errors import ConfigError
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.streams.named import builders, markov, orders
from dabench.protocols.streams.named.arrivals import MIXED, Arranged, Pool
from dabench.protocols.streams.named.catalogue import STREAMS, parse_stream
from dabench.protocols.streams.named.orders import (
    FEWEST_IN_CHUNK,
    _chunks,
    dirichlet_chunks,
    label_shift,
    slot_order,
    zipf_draw,
)
from dabench.protocols.streams.named.walk import path

K, PER_CLASS = 6, 30
LABELS = np.random.default_rng(7).permutation(np.repeat(np.arange(K), PER_CLASS))
KINDS = ("fog", "rain", "low-light", "lens-drops")
SHIFTS = tuple(Segment(f"{kind}-3", kind, 3) for kind in KINDS)
NAMED = [name for name, entry in STREAMS.items() if entry.build is not None]
UNITTA = [name for name in NAMED if name.startswith("unitta-")]
#: what each name stands for, seed 0: records and papers cite it, so that it must not move
FROZEN = {
    "correlated": "82bc91da26",
    "single": "c5a3b83766",
    "label-shift": "8728ba2db7",
    "gradual": "cbba955527",
    "mixed": "6534baed8b",
    "ptta": "dea3ebf4c5",
    "recurring": "c79884ac6b",
    "wild": "5eda7ae16a",
    "lame-iid": "5d1f6b3bf7",
    "lame-iid-zipf": "a3f72a66ab",
    "lame-grouped": "51c96372b0",
    "lame-grouped-zipf": "46e8d1cd75",
    "ccc": "76e2ed64e6",
    "unitta-i1i1": "223243aed1",
    "unitta-i1iu": "80ac87bf73",
    "unitta-i1n1": "f92b7d5cfb",
    "unitta-i1nu": "11709a796d",
    "unitta-i111": "a19378b990",
    "unitta-i11u": "8caeb36d90",
    "unitta-iui1": "9557889ce0",
    "unitta-iuiu": "69d1f2d778",
    "unitta-iun1": "9d1badaad9",
    "unitta-iunu": "9ab72d2189",
    "unitta-iu11": "2452a3959f",
    "unitta-iu1u": "0850cae6b7",
    "unitta-n1i1": "6e95d06264",
    "unitta-n1iu": "801111df06",
    "unitta-n1n1": "cb5e447be1",
    "unitta-n1nu": "5e072a679a",
    "unitta-n111": "27692c0aac",
    "unitta-n11u": "aa526a5768",
    "unitta-nui1": "15feb90508",
    "unitta-nuiu": "5feb37f848",
    "unitta-nun1": "b5611361ec",
    "unitta-nunu": "323654060e",
    "unitta-nu11": "28d23cdf27",
    "unitta-nu1u": "afe4522994",
}


def made(text: str, seed: int = 0, shifts: tuple[Segment, ...] = SHIFTS) -> Arranged:
    """Return a stream over 180 images of six classes in four domains."""
    named = parse_stream(text, STREAMS[text.partition(":")[0]].protocols[-1])
    return named.arrange(Pool(named.name, LABELS, shifts, seed))


def together(found: Arranged) -> tuple[np.ndarray, np.ndarray]:
    """Return images and domains of all arrivals."""
    parts = found.segments
    return np.concatenate([p.images for p in parts]), np.concatenate([p.shown for p in parts])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", NAMED)
def test_a_stream_is_a_pure_function_of_labels_domains_and_seed(name: str) -> None:
    one, two, other = (together(made(name, seed)) for seed in (0, 0, 1))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))
    assert any(a.tobytes() != b.tobytes() for a, b in zip(one, other, strict=True))
    found = made(name)
    images, shown = together(found)
    assert ((images >= 0) & (images < len(LABELS))).all()
    assert ((shown >= 0) & (shown < len(found.domains))).all()
    names = [part.segment.name for part in found.segments]
    assert len(set(names)) == len(names)
    for part in found.segments:
        domains = {found.domains[i].domain for i in np.unique(part.shown)}
        assert domains == {part.segment.domain} or part.segment.domain == MIXED


@pytest.mark.parametrize("name", NAMED)
def test_a_name_stands_for_the_same_stream_tomorrow(name: str) -> None:
    """A change of the draws, ours or numpy's, is a new version of the protocol."""
    content = b"".join(values.astype("<i8").tobytes() for values in together(made(name)))
    assert hashlib.sha256(content).hexdigest()[:10] == FROZEN[name]


def test_there_are_the_24_of_unitta() -> None:
    assert len(UNITTA) == 24
    assert {"unitta-i1i1", "unitta-nu1u", "unitta-n1nu"} <= {*UNITTA}


@pytest.mark.parametrize("name", ["mixed", "mixed:concentration=0.5", "lame-iid", "lame-grouped"])
def test_every_image_comes_once_in_every_domain(name: str) -> None:
    pairs = Counter(zip(*(values.tolist() for values in together(made(name))), strict=True))
    assert len(pairs) == len(LABELS) * len(SHIFTS)
    assert set(pairs.values()) == {1}


@pytest.mark.parametrize("name", ["correlated", "ptta", "single"])
def test_every_domain_shows_every_image_once(name: str) -> None:
    found = made(name)
    assert [part.segment for part in found.segments] == list(SHIFTS)
    for part in found.segments:
        np.testing.assert_array_equal(np.sort(part.images), np.arange(len(LABELS)))


def runs(labels: np.ndarray) -> int:
    """Return how many stretches of one class there are."""
    return 1 + int((np.diff(labels) != 0).sum())


def test_chunks_of_few_classes() -> None:
    for seed in range(5):
        found = None
        draws = rng(seed)
        while found is None:
            found = _chunks(LABELS, K, 0.1, draws)
        sizes = [sum(map(len, chunk)) for chunk in found]
        assert min(sizes) >= FEWEST_IN_CHUNK
        np.testing.assert_array_equal(
            np.sort(np.concatenate([part for chunk in found for part in chunk])),
            np.arange(len(LABELS)),
        )
        # whole classes follow each other, so there are no more runs than classes times chunks
        order = dirichlet_chunks(LABELS, K, 0.1, rng(seed))
        np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))
        assert runs(LABELS[order]) <= K * K
    assert runs(LABELS[dirichlet_chunks(LABELS, K, 0, rng())]) == K
    assert runs(LABELS[dirichlet_chunks(LABELS, K, np.inf, rng())]) > 100


def test_a_full_chunk_takes_no_more() -> None:
    """A chunk that has its N / K images gets none of the classes that come later."""
    labels = np.repeat(np.arange(2), (300, 100))
    for seed in range(20):
        found = _chunks(labels, 2, 0.3, rng(seed))
        if found is None:
            continue
        first = [len(chunk[0]) for chunk in found]
        for chunk, size in zip(found, first, strict=True):
            assert size < 200 or len(chunk[1]) == 0


def test_slots_follow_the_drawn_shares() -> None:
    order = slot_order(LABELS, 4, 0.3, rng(5))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))
    assert runs(LABELS[order]) <= 4 * K
    # the same draws by hand: where each class is cut
    draws, cuts = rng(5), []
    for _ in range(K):
        draws.permutation(PER_CLASS)
        shares = draws.dirichlet(np.full(4, 0.3))
        ends = (np.cumsum(shares)[:-1] * PER_CLASS).astype(int)
        cuts.append(np.diff([0, *ends, PER_CLASS]))
    sizes = np.stack(cuts).sum(0)
    begin = 0
    for slot, size in enumerate(sizes):
        here = np.bincount(LABELS[order[begin : begin + size]], minlength=K)
        np.testing.assert_array_equal(here, [c[slot] for c in cuts])
        begin += size


def test_one_class_after_the_other_dominates() -> None:
    order = LABELS[label_shift(LABELS, 125, 1e9, rng())]
    assert len(order) == 120
    stretches = order.reshape(K, 20)
    assert (stretches == stretches[:, :1]).all()
    assert set(stretches[:, 0]) == set(range(K))
    even = LABELS[label_shift(LABELS, 60_000, 1, rng())]
    shares = np.bincount(even[:10_000], minlength=K) / 10_000
    np.testing.assert_allclose(shares, 1 / K, atol=0.02)
    ratio = LABELS[label_shift(LABELS, 60_000, 10, rng())].reshape(K, -1)
    own = np.array([(part == np.bincount(part).argmax()).mean() for part in ratio])
    np.testing.assert_allclose(own, 10 / (10 + K - 1), atol=0.02)


def test_images_of_a_class_are_drawn_with_replacement() -> None:
    order = label_shift(LABELS, len(LABELS), 1e9, rng())
    assert len(set(order.tolist())) < 0.8 * len(LABELS)  # of n draws among n, 1 - 1/e are different


def test_zipf_shares() -> None:
    labels = np.repeat(np.arange(20), 100)
    for seed in range(10):
        counts = np.sort(np.bincount(labels[zipf_draw(labels, 2.0, rng(seed))], minlength=20))
        assert counts[-2:].sum() < 1800
        assert 2000 - 20 <= counts.sum() <= 2000
    with pytest.raises(ConfigError, match="larger zipf"):
        zipf_draw(np.zeros(50, np.int64), 2.0, rng())


def test_gradual_in_both_forms() -> None:
    def levels(text: str) -> list[tuple[str, int]]:
        return [(p.segment.domain, p.segment.severity) for p in made(text).segments]

    peak = [1, 2, 3, 2, 1]
    assert levels("gradual") == [(kind, level) for kind in KINDS for level in peak]
    first = [(KINDS[0], level) for level in (3, 2, 1)]
    rest = [(kind, level) for kind in KINDS[1:] for level in peak]
    assert levels("gradual:form=cotta") == first + rest
    some = made("gradual:images=20").segments
    assert all(len(set(part.images.tolist())) == 20 for part in some)
    up, down = (part for part in some if part.segment.name in ("fog-1-up", "fog-1-down"))
    assert {*up.images.tolist()} != {*down.images.tolist()}  # drawn anew


def test_visits_come_again() -> None:
    found = made("recurring:visits=3").segments
    names = [part.segment.name for part in found]
    assert names == [f"{s.name}@{visit}" for visit in (1, 2, 3) for s in SHIFTS]
    for part in found:
        np.testing.assert_array_equal(np.sort(part.images), np.arange(len(LABELS)))
    assert found[0].images.tolist() != found[len(SHIFTS)].images.tolist()


def test_wild_images_are_each_in_a_domain_of_their_own() -> None:
    images, _ = together(made("wild:ratio=1"))
    assert len(images) == len(LABELS) * len(SHIFTS)
    drawn = np.concatenate([together(made("wild:ratio=1", seed))[1] for seed in range(20)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), 0.25, atol=0.015)
    assert parse_stream("wild", "continual-tta").entry.batch == 1


def test_lames_groups() -> None:
    _, shown = together(made("lame-grouped-zipf"))
    assert runs(shown) == len(SHIFTS)
    images, _ = together(made("lame-grouped", shifts=SHIFTS[:1]))
    assert runs(LABELS[images]) == K
    assert len({tuple(np.unique(together(made("lame-grouped", s))[1][:1])) for s in range(8)}) > 1


def test_lames_streams_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = together(made("lame-grouped-zipf"))
    monkeypatch.setattr(builders, "LAME_MOST", 50)
    for name in ("lame-iid", "lame-grouped", "lame-grouped-zipf"):
        assert len(together(made(name))[0]) == 50, name
    assert together(made("lame-grouped-zipf"))[0].tolist() == whole[:50].tolist()


# -- UniTTA ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITTA)
def test_quotas_and_ends_of_unitta(name: str) -> None:
    images, shown = together(made(name))
    domain, label = markov.factors(name.removeprefix("unitta-"), len(SHIFTS), K)
    visits = np.zeros((len(SHIFTS), K))
    np.add.at(visits, (shown, LABELS[images]), 1)
    quota = np.round(PER_CLASS * np.outer(domain.shares, label.shares))
    if domain.consistent and label.consistent:
        assert visits.max() == PER_CLASS
        assert (visits == PER_CLASS).sum() == 1
    elif not domain.consistent and not label.consistent:
        np.testing.assert_array_equal(visits, quota)
    elif not domain.consistent:
        np.testing.assert_array_equal(visits.sum(1), quota.sum(1))
    else:
        np.testing.assert_array_equal(visits.sum(0), quota.sum(0))


def test_which_factors_are_consistent() -> None:
    """By hand, for 15 domains and 10 classes as in the authors' runs."""
    found = {}
    for letter, n in (("d", 15), ("c", 10)):
        for moves in "in1" if letter == "d" else "in":
            for shares in "1u":
                setting = f"i1{moves}{shares}" if letter == "d" else f"{moves}{shares}i1"
                side = markov.factors(setting, 15, 10)[letter == "c"]
                assert side.states == n
                found[letter + moves + shares] = side.consistent
    assert {key for key, yes in found.items() if yes} == {"di1", "dn1", "dnu", "ci1", "cn1", "cnu"}


@pytest.mark.parametrize(("n", "correlation", "imbalance"), [(10, 0.95, 10), (15, 0.85, 5)])
def test_stationary_shares_fall_by_the_imbalance(
    n: int, correlation: float, imbalance: float
) -> None:
    side = markov.Factor(n, correlation, imbalance)
    values, vectors = np.linalg.eig(side.transitions.T)
    stationary = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    stationary /= stationary.sum()
    np.testing.assert_allclose(stationary, side.shares / side.shares.sum(), atol=1e-9)
    assert stationary[0] / stationary[-1] == pytest.approx(imbalance)
    assert side.transitions[0, 0] == pytest.approx(correlation)
    np.testing.assert_allclose(side.transitions.sum(1), 1)


def test_a_long_chain_has_the_stationary_shares() -> None:
    domains, classes = markov.chain(*markov.factors("i1i1", 4, K), 300, rng())
    np.testing.assert_allclose(np.bincount(domains) / len(domains), 0.25, atol=0.02)
    np.testing.assert_allclose(np.bincount(classes) / len(classes), 1 / K, atol=0.02)
    domains, classes = markov.chain(*markov.factors("n1n1", 4, K), 300, rng())
    assert (np.diff(domains) == 0).mean() == pytest.approx(0.85, abs=0.02)
    assert (np.diff(classes) == 0).mean() == pytest.approx(0.95, abs=0.02)


def test_domains_one_after_the_other_and_images_in_a_circle() -> None:
    found = made("unitta-nu1u")
    assert runs(together(found)[1]) == len(SHIFTS) == len(found.segments)
    images, shown = together(made("unitta-nui1"))
    for d in range(len(SHIFTS)):
        own = images[(shown == d) & (LABELS[images] == 0)].tolist()
        assert own == (own[:PER_CLASS] * 3)[: len(own)]
        assert len(set(own[:PER_CLASS])) == min(len(own), PER_CLASS)


# -- the walk --------------------------------------------------------------------------------------


def test_a_walk_keeps_near_its_level() -> None:
    table = np.add.outer(np.arange(6.0), np.arange(6.0))
    steps = path(table, 5)
    assert steps[0][1] == 0
    assert steps[-1][0] == 0
    moves = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(steps)}
    assert moves <= {(-1, 0), (0, 1)}
    assert np.mean([table[step] for step in steps]) == pytest.approx(5, abs=0.5)
    assert path(np.array([[0.0, 9.0], [9.0, 9.0]]), 9) == [(1, 0), (1, 1), (0, 1)]
    assert path(np.array([[3.0, 9.0], [3.0, 9.0]]), 3) == [(1, 0), (0, 0)]


def test_each_walk_begins_where_the_last_one_ended() -> None:
    found = made("ccc:walks=6,level=3,images=10")
    ends = {}
    for part in found.segments:
        number = int(part.segment.name.rpartition("@")[2])
        domain = found.domains[part.shown[0]]
        ends.setdefault(number, []).append(domain.domain.partition(":")[0].partition("&")[0])
    kinds = [(names[0], names[-1]) for _, names in sorted(ends.items())]
    assert len(kinds) == 6
    assert all(a[1] == b[0] for a, b in pairwise(kinds))


# -- options, records, bad input -------------------------------------------------------------------


def spec(**options: Any) -> Any:
    given = {"method": "source", "protocol": "continual-tta", "threads": 1, "device": "cpu"}
    return resolve({**given, **{f"protocol.{k}": v for k, v in options.items()}})[0]


def test_the_protocols_own_order_stays_out_of_records() -> None:
    """Or every run id of an older record would change."""
    plain = spec().protocol_options
    assert not {"stream", "stream_speed"} & plain.keys()
    assert spec(stream="continual").protocol_options == plain
    assert spec(stream="mixed").protocol_options == {**plain, "stream": "mixed"}
    written = spec(stream="correlated:slots=4,concentration=0.10").protocol_options["stream"]
    assert written == "correlated:slots=4"


def test_old_digests_stand() -> None:
    rows = np.arange(5)
    sha = hashlib.sha256(b"16|3text|fog-5|fog|5|" + rows.astype("<i8").tobytes())
    stream = Stream(((Segment("fog-5", "fog", 5), rows),), 16, 3, "text")
    assert stream.digest == sha.hexdigest()
    named = Stream(stream.segments, 16, 3, "text", SHIFTS, (np.zeros(5, np.int64),))
    other = Stream(stream.segments, 16, 3, "text", SHIFTS, (np.arange(5) % 2,))
    assert len({stream.digest, named.digest, other.digest}) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stream": "corelated"}, "did you mean 'correlated'"),
        ({"stream": "zzz"}, "dabench list streams"),
        ({"stream": "reset-per-shift"}, "belongs to online-tta, not to continual-tta"),
        ({"stream": "correlated:slot=3"}, "no option 'slot'; did you mean 'slots'"),
        ({"stream": "continual:visits=3"}, "it has no options"),
        ({"stream": "correlated:slots"}, "write slots=0"),
        ({"stream": "correlated:slots=1.5"}, "slots=1.5: expected a whole number from 0"),
        ({"stream": "correlated:concentration=1_0"}, "a number of at most six digits, from 0"),
        ({"stream": "correlated:slots=٣"}, "slots=٣: expected a whole number from 0"),
        ({"stream": "correlated:concentration=nan"}, "a number of at most six digits, from 0"),
        ({"stream": "label-shift:ratio=500000.4"}, "a number of at most six digits, from 1"),
        ({"stream": "recurring:visits=1"}, "visits=1: expected a whole number from 2"),
        ({"stream": "gradual:form=up"}, "expected peak or cotta"),
    ],
)
def test_bad_streams_are_told(options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spec(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stream": "mixed", "order": "class-correlated"}, "has an order of its own"),
        ({"stream": "mixed", "rounds": 2}, "recurring:visits=2 is a stream"),
        ({"stream": "single", "also_after": True}, "most batches have no update"),
        ({"stream_speed": 1.0, "also_after": True}, "most batches have no update"),
        ({"stream": "single", "stream_speed": 1.0}, "both say when a method adapts"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ContinualTTA(**options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mixed:images=181", "images=181 of a visit, and there are 180"),
        ("label-shift:images=5", "leave no image for each of 6 stretches"),
        ("correlated:slots=19", "too few images a class.* slots=18 or fewer"),
        ("correlated:concentration=0.000001,slots=18", "larger concentration or fewer slots"),
    ],
)
def test_a_stream_longer_than_the_data_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setattr(orders, "TRIES", 20)
    with pytest.raises(ConfigError, match=told):
        made(text)


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("label-shift:images=400", 4 * 396),
        ("wild:images=1500", 1500),
        ("unitta-n1n1:samples=50", 51),
    ],
)
def test_a_stream_that_repeats_images_may_be_longer_than_the_data(text: str, least: int) -> None:
    """As published: SAR draws 100,000 of 50,000 images, UniTTA 100 a class of 50."""
    images, shown = together(made(text))
    assert len(images) >= least
    assert len(np.unique(np.stack([images, shown]), axis=1).T) < len(images)
    assert set(images.tolist()) <= set(range(180))


@pytest.mark.parametrize(
    ("text", "shifts", "told"),
    [
        ("ccc", SHIFTS[:1], "two different kinds"),
        ("ccc", (*SHIFTS[:1], Segment("clear", "clear")), "none of them 'clear'"),
        ("ccc", (*SHIFTS[:1], Segment("a+b-1", "a+b", 1)), "cannot be laid over another"),
        ("gradual", (Segment("clear", "clear"),), "'clear' has no severities"),
        (
            "gradual",
            (Segment("fog-2", "fog", 2), Segment("fog-1", "fog", 1)),
            "every kind of .* once",
        ),
        ("unitta-i1i1", SHIFTS[:1], "two domains and two classes at least"),
    ],
)
def test_shifts_that_do_not_fit(text: str, shifts: tuple[Segment, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        made(text, 0, shifts)
