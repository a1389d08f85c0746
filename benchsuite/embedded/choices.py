"""Four-choice questions about the things of the closed world, as in ARC.

Each thing has a kind, a colour, a place and a weight, which are told nowhere and must be learned
from the questions of the train split; a test question compares four things never seen together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchsuite.embedded.draws import Draws, split_of
from benchsuite.embedded.schema import Choice

_KINDS = {
    "fruit": "apple cherry fig grape lemon melon orange peach pear plum quince raisin",
    "tool": "axe chisel drill file hammer pliers saw shovel spade tongs vice wrench",
    "animal": "badger bear camel donkey fox goat horse mole otter rabbit sheep wolf",
    "fish": "bream carp cod eel herring perch pike salmon shark sole trout tuna",
    "metal": "brass bronze chrome cobalt copper gold lead nickel steel tin titanium zinc",
    "garment": "apron belt cap cloak coat dress glove hat scarf shirt shoe skirt",
    "plant": "clover daisy fern heather iris ivy lily moss nettle reed rose thistle",
    "vessel": "barge boat canoe cutter dinghy ferry kayak punt raft sloop tug yacht",
}
_COLOURS = ("black", "blue", "brown", "green", "red", "white")
_PLACES = ("attic", "barn", "cellar", "garden", "kitchen", "market", "museum", "workshop")


@dataclass(frozen=True)
class Thing:
    """A thing and what the closed world holds about it; weights are 1 to 30."""

    name: str
    kind: str
    colour: str
    place: str
    weight: int


@cache
def things() -> tuple[Thing, ...]:
    """Return the 96 things."""
    draws = Draws("things")
    return tuple(
        Thing(name, kind, draws.pick(_COLOURS), draws.pick(_PLACES), draws.between(1, 30))
        for kind, names in _KINDS.items()
        for name in names.split()
    )


def stream(split: str, draws: Draws) -> Iterator[Choice]:
    """Yield four-choice questions without end; the right option's place is uniform."""
    ask = (_by_kind, _by_colour, _by_place, _by_weight, _by_two)
    while True:
        question, right, wrong = draws.pick(ask)(draws)
        if len(wrong) < 3:
            continue
        options = [right, *draws.sample(wrong, 3)]
        if split_of([thing.name for thing in options]) != split:
            continue
        order = draws.shuffled(options)
        yield Choice("", question, tuple(thing.name for thing in order), order.index(right))


_Asked = tuple[str, Thing, list[Thing]]


def _by_kind(draws: Draws) -> _Asked:
    right = draws.pick(things())
    article = "an" if right.kind[0] in "aeiou" else "a"
    asked = draws.pick(("Which of these is {}?", "Which one would you call {}?"))
    wrong = [thing for thing in things() if thing.kind != right.kind]
    return asked.format(f"{article} {right.kind}"), right, wrong


def _by_colour(draws: Draws) -> _Asked:
    right = draws.pick(things())
    asked = draws.pick(("Which of these is {}?", "Which one has the colour {}?"))
    wrong = [thing for thing in things() if thing.colour != right.colour]
    return asked.format(right.colour), right, wrong


def _by_place(draws: Draws) -> _Asked:
    right = draws.pick(things())
    asked = draws.pick(("Which of these is kept in the {}?", "What would you find in the {}?"))
    wrong = [thing for thing in things() if thing.place != right.place]
    return asked.format(right.place), right, wrong


def _by_weight(draws: Draws) -> _Asked:
    right = draws.pick(things())
    if draws.below(2):
        wrong = [thing for thing in things() if thing.weight < right.weight]
        return (
            draws.pick(("Which of these is the heaviest?", "Which one weighs most?")),
            right,
            wrong,
        )
    wrong = [thing for thing in things() if thing.weight > right.weight]
    return draws.pick(("Which of these is the lightest?", "Which one weighs least?")), right, wrong


def _by_two(draws: Draws) -> _Asked:
    right = draws.pick(things())
    # Every wrong option has one of the two properties, so that neither alone is enough.
    wrong = [
        thing for thing in things() if (thing.kind == right.kind) != (thing.colour == right.colour)
    ]
    return f"Which of these is a {right.colour} {right.kind}?", right, wrong
