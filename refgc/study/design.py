"""Who sees what, and in which order: a pure function of the study's seed and the number of the person.

The results of an item are shown in the order of a row of a Latin square. Its rows go to people one after the other, so
that of as many people as there are methods each method stood once at each place, for every item; and likewise over as
many items for every person. Rows, columns and symbols of each square are shuffled, so that nobody can tell from the
places of one item what stands where in the next.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from refgc.study.definition import Kind, Study

# Of the items of a person, the part among which the one that is repeated is chosen; and the part after which it comes
# again, so that it is hardly remembered. Chosen by hand.
REPEATED_FROM, REPEATED_AFTER = 0.4, 0.8


@dataclass(frozen=True, slots=True)
class Showing:
    """One item as one person sees it.

    Attributes:
        item: id of the item or check.
        kind: "repeat" for an item that this person has seen before.
        order: names of the choices from the first place to the last.
    """

    item: str
    kind: Kind
    order: tuple[str, ...]


def showings(study: Study, rater: int) -> list[Showing]:
    """All that a person sees, in order: the items, one of them again in another order, and the checks in between.

    Args:
        study: what is asked.
        rater: number of the person, from 0 on, without gaps.
    """
    shuffle = random.Random(f"{study.seed} sequence {rater}")
    items = _items(study, rater)
    shuffle.shuffle(items)
    sequence = [Showing(item, "item", _order(study, place, turn, 0)) for item, place, turn in items]
    if len(items) > 1:
        early = max(1, int(REPEATED_FROM * len(items)))
        item, place, turn = items[shuffle.randrange(early)]
        again = Showing(item, "repeat", _order(study, place, turn, len(study.methods) // 2))
        sequence.insert(shuffle.randint(max(early + 1, int(REPEATED_AFTER * len(items))), len(items)), again)
    checks = [
        Showing(check.id, "check", _row(study, f"check {number}", sorted(check.choices), rater + number))
        for number, check in enumerate(study.checks)
    ]
    shuffle.shuffle(checks)
    # One in each of as many equal stretches, none before the first item, and none right after another.
    length = len(sequence)
    for number, check in reversed(list(enumerate(checks))):
        first, last = number * length // len(checks), (number + 1) * length // len(checks)
        sequence.insert(shuffle.randint(max(1, first), max(1, last - 1)), check)
    return sequence


def _items(study: Study, rater: int) -> list[tuple[str, int, int]]:
    """The items of a person: of each its id, its place on the circle, and how many people were given it before.

    People take turns on a circle of all items: each goes on where the one before stopped.
    """
    circle = [item.id for item in study.items]
    random.Random(f"{study.seed} circle").shuffle(circle)
    number, first = len(circle), rater * study.items_per_rater
    return [
        (circle[turn % number], turn % number, turn // number) for turn in range(first, first + study.items_per_rater)
    ]


def _order(study: Study, place: int, turn: int, later: int) -> tuple[str, ...]:
    """The row of an item's square that comes at a turn, or some rows later in the same square.

    Neighbours on the circle share a square, so that a person sees all its rows.
    """
    number = len(study.methods)
    block = f"{turn // number} {place // number}"
    return _row(study, f"item {block}", list(study.methods), turn + place + later)


def _row(study: Study, square: str, names: list[str], row: int) -> tuple[str, ...]:
    number = len(names)
    shuffle = random.Random(f"{study.seed} square {square}")
    rows, columns, symbols = list(range(number)), list(range(number)), list(names)
    for part in (rows, columns, symbols):
        shuffle.shuffle(part)
    return tuple(symbols[(rows[row % number] + column) % number] for column in columns)
