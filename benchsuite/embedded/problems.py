"""Multi-step word problems with their steps, in four kinds.

``equations`` writes steps as GSM8K-AUG does (``<<4*5=20>>``), ``sentences`` as GSM8K-AUG-NL,
``hard`` has larger numbers (GSM8K-Hard), ``rephrased`` other wordings and a number that does not
matter (SVAMP). A problem's operands are all the numbers that its question holds, in any order;
they decide the split, whatever the kind.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchsuite.embedded.draws import Draws, split_of
from benchsuite.embedded.schema import Problem
from benchsuite.embedded.world import FIRST_NAMES

_OBJECTS = (
    *("apples", "badges", "balls", "beads", "books", "buttons", "candles", "cards"),
    *("coins", "cookies", "corks", "cups", "eggs", "feathers", "flags", "keys", "marbles"),
    *("masks", "nails", "pears", "pebbles", "pens", "plates", "ribbons", "rings", "shells"),
    *("stamps", "stickers", "stones", "tickets", "tiles", "toys"),
)
_CONTAINERS = ("bags", "baskets", "boxes", "cases", "crates", "jars", "packs", "trays")

# Wordings by event: the ordinary ones, then those of the rephrased kind.
_WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "product": (
        (
            "{name} has {a} {box} with {b} {thing} in each.",
            "{name} fills {a} {box} with {b} {thing} each.",
            "There are {a} {box} on {name}'s table, and each holds {b} {thing}.",
        ),
        (
            "Each of {name}'s {a} {box} holds {b} {thing}.",
            "{name} keeps {b} {thing} in every one of {a} {box}.",
        ),
    ),
    "sum": (
        (
            "{name} has {a} red {thing} and {b} blue {thing}.",
            "{name} finds {a} {thing} in the morning and {b} {thing} in the evening.",
            "{name} gets {a} {thing} from {friend} and {b} {thing} from a shop.",
        ),
        (
            "Besides {a} old {thing}, {name} has {b} new {thing}.",
            "{name} was given {a} {thing} on Monday and {b} on Tuesday.",
        ),
    ),
    "add": (
        ("Then {name} buys {c} more.", "{friend} gives {name} another {c}.", "Then {c} are added."),
        ("A further {c} come from {friend}.", "{name} then receives {c} on top."),
    ),
    "subtract": (
        ("Then {name} sells {c} of them.", "{name} gives {c} to {friend}.", "Then {c} are lost."),
        ("Of these, {c} go to {friend}.", "{friend} then takes {c} away."),
    ),
    "multiply": (
        (
            "After a year there are {c} times as many.",
            "Then the number grows to {c} times as many.",
        ),
        ("A year later the number is {c} times as large.",),
    ),
    "divide": (
        (
            "{name} shares all of them equally among {c} children, and {friend} is one of them.",
            "All of them are put into {c} equal piles, and {friend} gets one pile.",
        ),
        ("They are split into {c} equal parts, and {friend} receives one part.",),
    ),
}
_ASKED = {
    "kept": (
        ("How many {thing} does {name} have now?", "How many {thing} are there in the end?"),
        ("What is the number of {thing} at the end?",),
    ),
    "shared": (
        ("How many {thing} does {friend} get?", "How many {thing} does {friend} have?"),
        ("What is the number of {thing} that {friend} gets?",),
    ),
}
_ASIDES = (
    "{friend} is {d} years old.",
    "The house has {d} windows.",
    "{name} also owns {d} old maps.",
    "It is {d} miles to the town.",
)
_SENTENCES = {
    "*": "{0} times {1} is {2}.",
    "+": "{0} plus {1} is {2}.",
    "-": "{0} minus {1} is {2}.",
    "/": "{0} divided by {1} is {2}.",
}
_RESULTS = {"*": operator.mul, "+": operator.add, "-": operator.sub, "/": operator.floordiv}
_LIMITS = (999, 9999)  # of a problem's answer: ordinary, hard
_SIZES: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "factor": ((2, 19), (6, 49)),
    "part": ((11, 99), (100, 899)),
    "change": ((11, 99), (100, 899)),
    "times": ((2, 5), (3, 9)),
}


@dataclass
class _Story:
    """A problem before it is written out: most belong to another split and never are."""

    draws: Draws
    large: bool
    wording: int
    value: int = 0
    text: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    steps: list[tuple[int, str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        name, friend = self.draws.sample(FIRST_NAMES, 2)
        thing, box = self.draws.pick(_OBJECTS), self.draws.pick(_CONTAINERS)
        self.words = {"name": name, "friend": friend, "thing": thing, "box": box}

    def size(self, what: str) -> int:
        return self.draws.between(*_SIZES[what][self.large])

    def tell(self, event: str, **numbers: int) -> None:
        self.text.append((self.draws.pick(_WORDINGS[event][self.wording]), numbers))

    def step(self, left: int, sign: str, right: int) -> None:
        self.value = _RESULTS[sign](left, right)
        self.steps.append((left, sign, right, self.value))


def stream(kind: str, split: str, draws: Draws) -> Iterator[Problem]:
    """Yield problems of one kind without end, with the operands that the split owns.

    ``kind`` is ``equations``, ``sentences``, ``hard`` or ``rephrased``.
    """
    while True:
        story = _story(kind, draws)
        if story is None:
            continue
        numbers = sorted(n for _, told in story.text for n in told.values())
        if split_of(numbers) == split:
            yield _written(story, kind)


def _story(kind: str, draws: Draws) -> _Story | None:
    story = _Story(draws, large=kind == "hard", wording=int(kind == "rephrased"))
    if draws.below(2):
        a, b = story.size("factor"), story.size("factor")
        story.tell("product", a=a, b=b)
        story.step(a, "*", b)
    else:
        a, b = story.size("part"), story.size("part")
        story.tell("sum", a=a, b=b)
        story.step(a, "+", b)
    asked = "kept"
    for left in reversed(range(draws.between(1, 3))):
        asked = _event(story, last=left == 0)
    if story.value > _LIMITS[story.large]:
        return None
    if kind == "rephrased":
        aside = draws.pick(_ASIDES), {"d": draws.between(11, 99)}
        story.text.insert(draws.below(len(story.text) + 1), aside)
    story.text.append((draws.pick(_ASKED[asked][story.wording]), {}))
    return story


def _written(story: _Story, kind: str) -> Problem:
    question = " ".join(text.format(**story.words, **numbers) for text, numbers in story.text)
    steps = tuple(
        _SENTENCES[sign].format(left, right, result)
        if kind == "sentences"
        else f"<<{left}{sign}{right}={result}>>"
        for left, sign, right, result in story.steps
    )
    return Problem("", question, steps, str(story.value))


def _event(story: _Story, last: bool) -> str:
    """Add one event to the story; only the last may share, for it ends with another owner."""
    events = ["add", "subtract", "multiply"]
    divisors = [k for k in range(2, 10) if story.value % k == 0]
    if last and divisors:
        events.append("divide")
    event = story.draws.pick(events)
    if event == "divide":
        number = story.draws.pick(divisors)
    elif event == "multiply":
        number = story.size("times")
    else:
        number = story.size("change")
        if event == "subtract" and number >= story.value:
            event = "add"
    story.tell(event, c=number)
    story.step(
        story.value, {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}[event], number
    )
    return "shared" if event == "divide" else "kept"
