"""Who sees what in which order: balanced, random and the same each time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from refgc.study.definition import RIGHT, Picture, Study, StudyItem
from refgc.study.design import showings

PICTURE = Picture(file=f"{'0' * 32}.png", width=8, height=8)


def a_study(methods: int, items: int, *, checks: int = 2, per_rater: int | None = None, seed: int = 0) -> Study:
    names = tuple(f"m{number}" for number in range(methods))
    wrong = [f"degraded {number}" for number in range(1, methods)]

    def item(name: str, choices: list[str]) -> StudyItem:
        return StudyItem(id=name, reference=PICTURE, generated=PICTURE, choices=dict.fromkeys(choices, PICTURE))

    return Study(
        seed=seed,
        methods=names,
        items=tuple(item(f"item-{number}", list(names)) for number in range(items)),
        checks=tuple(item(f"check-{number}", [RIGHT, *wrong]) for number in range(checks)),
        items_per_rater=per_rater or items,
    )


@pytest.mark.parametrize(("methods", "items"), [(2, 4), (4, 8), (5, 10), (9, 9)])
def test_each_method_stands_at_each_place_equally_often(methods: int, items: int) -> None:
    study = a_study(methods, items)
    by_item: Counter[tuple[str, str, int]] = Counter()
    for rater in range(methods):
        by_rater: Counter[tuple[str, int]] = Counter()
        for shown in showings(study, rater):
            if shown.kind == "item":
                by_rater.update((name, place) for place, name in enumerate(shown.order))
                by_item.update((shown.item, name, place) for place, name in enumerate(shown.order))
        # Of every person over as many items as there are methods, or a multiple.
        assert set(by_rater.values()) == {items // methods}
        assert len(by_rater) == methods**2
    # And of every item over as many people.
    assert set(by_item.values()) == {1}
    assert len(by_item) == items * methods**2


def test_everybody_sees_all_items_once_the_checks_and_one_item_again() -> None:
    study = a_study(4, 10, checks=3)
    for rater in range(20):
        shown = showings(study, rater)
        kinds = Counter(one.kind for one in shown)
        assert kinds == {"item": 10, "check": 3, "repeat": 1}
        assert {one.item for one in shown if one.kind == "item"} == {item.id for item in study.items}
        assert {one.item for one in shown if one.kind == "check"} == {check.id for check in study.checks}
        assert shown[0].kind == "item"
        (again,) = [place for place, one in enumerate(shown) if one.kind == "repeat"]
        (before,) = [place for place, one in enumerate(shown) if one.kind == "item" and one.item == shown[again].item]
        assert again - before > 3
        # No method stands where it stood before.
        assert all(one != other for one, other in zip(shown[before].order, shown[again].order, strict=True))
        assert not any(one.kind == other.kind == "check" for one, other in pairwise(shown))


def test_the_same_person_sees_the_same_and_another_seed_or_person_sees_something_else() -> None:
    study = a_study(4, 10)
    assert showings(study, 3) == showings(a_study(4, 10), 3)
    assert showings(study, 3) != showings(study, 4)
    assert showings(study, 3) != showings(a_study(4, 10, seed=1), 3)


def test_everybody_sees_the_items_in_an_order_of_their_own() -> None:
    """Else what comes late, when people are tired, would be the same items for all."""
    study = a_study(4, 10)
    orders = {tuple(one.item for one in showings(study, rater) if one.kind == "item") for rater in range(20)}
    assert len(orders) == 20
    first = Counter(order[0] for order in orders)
    assert len(first) >= 5
    # Nobody goes round the circle of all items, which a shorter study would show.
    follows = Counter(pair for order in orders for pair in pairwise(order))
    assert max(follows.values()) < 10


def test_the_orders_of_one_item_are_not_those_of_the_next_turned_on() -> None:
    """Else who knows the methods of one item would know those of all."""
    study = a_study(4, 40, checks=0)
    orders = [one.order for one in showings(study, 0)]
    turned = sum(other in [one[shift:] + one[:shift] for shift in range(4)] for one, other in pairwise(orders))
    # By chance 4 of the 24 orders are.
    assert turned < 20


def test_the_right_choice_of_a_check_stands_at_each_place() -> None:
    study = a_study(4, 8)
    places = Counter(
        (one.item, one.order.index(RIGHT))
        for rater in range(8)
        for one in showings(study, rater)
        if one.kind == "check"
    )
    assert set(places.values()) == {2}
    assert len(places) == 8


def test_where_a_person_sees_a_part_each_item_is_seen_equally_often_and_at_each_place() -> None:
    study = a_study(4, 12, per_rater=5)
    seen: Counter[str] = Counter()
    places: Counter[tuple[str, int]] = Counter()
    for rater in range(48):
        shown = [one for one in showings(study, rater) if one.kind == "item"]
        assert len({one.item for one in shown}) == 5
        seen.update(one.item for one in shown)
        places.update((name, place) for one in shown for place, name in enumerate(one.order))
    assert set(seen.values()) == {20}
    assert set(places.values()) == {48 * 5 // 4}


def test_one_item_is_not_repeated_and_needs_no_checks() -> None:
    assert [one.kind for one in showings(a_study(3, 1, checks=0), 0)] == ["item"]
