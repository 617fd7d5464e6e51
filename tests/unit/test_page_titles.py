"""What blocks of the page are called: whole, in few words, and as heads of columns."""

from __future__ import annotations

from typing import Any

from dabench.board.page.titles import column_heads, naming, natural_order


def spec(
    dataset: str, way: tuple[str, str], options: dict[str, Any], **more: Any
) -> dict[str, Any]:
    budget = {"image_size": 32, "backbone": "small-cnn", "weights": "none", "epochs": 1}
    budget |= {"batch_size": 64, "source_epochs": 2, "freeze": 0}
    task = {"dataset": dataset, "source": way[0], "target": way[1]}
    return budget | task | {"protocol_options": {"held_out": 0.3, **options}} | more


DIGITS, OFFICE = ("print", "handwritten"), ("amazon", "dslr")


def test_a_default_has_a_name_beside_named_ones_of_its_task() -> None:
    splits = [spec("digits", DIGITS, {"split": split}) for split in ("r3", "default")]
    other = spec("office31", OFFICE, {"split": "default"})
    assert [(one.title, one.short) for one in naming([*splits, other])] == [
        ("digits · print → handwritten · split r3", "digits · r3"),
        ("digits · print → handwritten · split default", "digits · split default"),
        ("office31 · amazon → dslr", "office31"),
    ]


def test_shifts_of_a_group_have_its_name() -> None:
    kinds = ("speckle-noise", "gaussian-blur", "spatter", "saturate")
    extra, mild = (",".join(f"c-{kind}:{level}" for kind in kinds) for level in (5, 1))
    fewer, mixed = extra.rpartition(",")[0], extra[:-1] + "4"
    lists = [extra, mild, fewer, mixed]
    found = naming([spec("cifar10-jpeg", ("train", "test"), {"shifts": own}) for own in lists])
    said = [one.title.rpartition(" · ")[2] for one in found]
    assert said == ["shifts c-extra:5", "shifts c-extra:1", f"shifts {fewer}", f"shifts {mixed}"]


def test_an_option_that_a_record_lacks_has_its_default() -> None:
    streams = [{"stream": "correlated"}, {}, {"stream": "recurring:images=500,visits=5"}]
    found = naming([spec("cifar10-jpeg", ("train", "test"), own) for own in streams])
    assert [one.title.rpartition(" · ")[2] for one in found][:2] == [
        "stream correlated",
        "stream default",
    ]
    assert [one.short for one in found] == [
        "correlated",
        "stream default",
        "recurring:images=500,visits=5",
    ]
    # a source model without a seed of its own is no default
    found = naming([spec("a", OFFICE, {}), spec("a", OFFICE, {}, source_seed=1)])
    assert [one.title for one in found] == [
        "a · amazon → dslr",
        "a · amazon → dslr · source seed 1",
    ]
    assert [one.short for one in found] == ["a · dslr", "source seed 1"]


def test_few_words_are_those_that_part_the_blocks() -> None:
    clear = ("clear", "clear")
    found = naming(
        [
            spec("aid", clear, {"weather": "aid-sf"}),
            spec("aid", clear, {"weather": "aid-cc"}),
            spec("aid", clear, {"weather": "aid-sf"}, backbone="small-vit", source_epochs=60),
            spec("overhead", clear, {"weather": "aid-sf"}),
        ]
    )
    # epochs say nothing that weather and network have not said
    assert [one.short for one in found] == [
        "aid · aid-sf · small-cnn",
        "aid · aid-cc · small-cnn",
        "aid · aid-sf · small-vit",
        "overhead",
    ]
    ways = [OFFICE, ("webcam", "dslr")]
    assert [one.short for one in naming([spec("office31", way, {}) for way in ways])] == [
        "amazon → dslr",
        "webcam → dslr",
    ]
    assert naming([spec("office31", OFFICE, {})])[0].short == "office31 · dslr"


def test_columns_stand_in_the_order_of_their_numbers() -> None:
    mixed = ["split r10", "split r2", "split", "split r02b", "split r" + 5000 * "9", "other"]
    assert sorted(mixed, key=natural_order) == [
        *("other", "split", "split r2", "split r02b", "split r10"),
        "split r" + 5000 * "9",
    ]
    shares = ["share 0.5", "share 0.25", "share 10", "share 0.75"]
    assert sorted(shares, key=natural_order) == [f"share {n}" for n in (0.25, 0.5, 0.75, 10)]


def test_a_head_leaves_out_what_the_one_before_has_said() -> None:
    titles = ["a · x → y · split r2", "a · x → y · split r3", "a · x → z", "b · x → z", "b · x → z"]
    assert column_heads(titles) == [titles[0], "split r3", "x → z", "b · x → z", "x → z"]
