"""Passages with and without the answer, as in SQuAD v2.

A passage tells some things about two or three subjects of one kind. An unanswerable question asks
what is not told about one of them, though it is often told about another. Some questions compare
two or three years.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchsuite.embedded import world
from benchsuite.embedded.draws import Draws, split_of
from benchsuite.embedded.schema import Question

_GOODS = (
    *("amber", "barley", "cloth", "coal", "copper", "cotton", "fish", "glass", "grain"),
    *("honey", "iron", "linen", "oil", "paper", "pepper", "salt", "silk", "silver", "tea"),
    *("wool",),
)
_STONES = (
    *("brick", "cedar", "clay", "granite", "iron", "limestone", "marble", "oak", "pine"),
    *("sandstone", "slate", "steel"),
)
_DISHES = (
    *("bean soup", "beef stew", "cherry pie", "dumplings", "fried fish", "goat cheese"),
    *("lamb roast", "mushroom pie", "onion soup", "pancakes", "plum cake", "rye bread"),
)
_BIRDS = (
    *("Crane", "Eagle", "Falcon", "Finch", "Gull", "Hawk", "Heron", "Kestrel", "Lark"),
    *("Martin", "Osprey", "Owl", "Petrel", "Plover", "Raven", "Robin", "Swallow", "Swan"),
    *("Tern", "Wren"),
)
_ADJECTIVES = (
    *("Black", "Blue", "Bright", "Golden", "Green", "Grey", "Old", "Red", "Silver"),
    *("White",),
)


# Compared as objects: there is one of each, and dictionaries of them are asked often.
@dataclass(frozen=True, eq=False)
class _Relation:
    values: str  # whose values: people, towns, years, or a list of this module
    told: str
    asked: tuple[str, str]


_KINDS: dict[str, tuple[_Relation, ...]] = {
    "ship": (
        _Relation("people", "was commanded by {}", ("Who commanded {}?", "Who led {}?")),
        _Relation("goods", "carried {}", ("What did {} carry?", "What was the cargo of {}?")),
        _Relation("towns", "sailed from {}", ("Where did {} sail from?", "{} left which town?")),
        _Relation("years", "sank in {}", ("When did {} sink?", "In what year did {} sink?")),
    ),
    "inn": (
        _Relation("people", "belonged to {}", ("Who owned {}?", "To whom did {} belong?")),
        _Relation("dishes", "served {}", ("What did {} serve?", "What was eaten at {}?")),
        _Relation("towns", "stood in {}", ("Where was {}?", "{} stood in which town?")),
        _Relation("years", "opened in {}", ("When did {} open?", "In what year did {} open?")),
    ),
    "bridge": (
        _Relation("people", "was designed by {}", ("Who designed {}?", "Who drew {}?")),
        _Relation("stones", "was made of {}", ("What was {} made of?", "{} was of which stuff?")),
        _Relation("towns", "led to {}", ("Where did {} lead to?", "{} led to which town?")),
        _Relation("years", "fell in {}", ("When did {} fall?", "In what year did {} fall?")),
    ),
}
_FIRST = {
    "ship": "Which ship sank first?",
    "inn": "Which inn opened first?",
    "bridge": "Which bridge fell first?",
}


def stream(split: str, draws: Draws) -> Iterator[Question]:
    """Yield passages and questions without end; half of the questions have no answer."""
    while True:
        kind = draws.pick(tuple(_KINDS))
        names = _names(draws)
        told = {name: _tell(kind, draws) for name in names}
        entities = names + [value for values in told.values() for value in values.values()]
        if split_of(entities) == split:
            yield _ask(kind, told, draws)


def _names(draws: Draws) -> list[str]:
    """Return two or three names; a third of the time they share their words with each other."""
    n = draws.between(2, 3)
    if draws.below(3):
        pairs = list(zip(draws.sample(_ADJECTIVES, n), draws.sample(_BIRDS, n), strict=True))
    else:
        birds = draws.sample(_BIRDS, 2)
        pairs = [(word, bird) for word in draws.sample(_ADJECTIVES, 2) for bird in birds]
        pairs = draws.sample(pairs, n)
    return [f"the {adjective} {bird}" for adjective, bird in pairs]


def _tell(kind: str, draws: Draws) -> dict[_Relation, str]:
    relations = draws.sample(_KINDS[kind], draws.between(1, 2))
    return {relation: _value(relation.values, draws) for relation in relations}


def _value(values: str, draws: Draws) -> str:
    if values == "years":
        return str(draws.between(1600, 1899))
    if values == "people":  # new pairs of known names, so that nothing about them is a fact
        return f"{draws.pick(world.FIRST_NAMES)} {draws.pick(world.people()).split()[1]}"
    lists = {"goods": _GOODS, "stones": _STONES, "dishes": _DISHES, "towns": world.towns()}
    return draws.pick(lists[values])


def _ask(kind: str, told: dict[str, dict[_Relation, str]], draws: Draws) -> Question:
    sentences = []
    for name, values in told.items():
        subject = f"The {kind} called {name}"
        for relation, value in values.items():
            sentences.append(f"{subject} {relation.told.format(value)}.")
            subject = "It" if draws.below(3) == 0 else name[0].upper() + name[1:]
    context = " ".join(sentences)
    answerable = draws.below(2) == 0
    dated = _years(told)
    if answerable and len(dated) > 1 and draws.below(2):
        first = min(dated, key=lambda name: dated[name])
        return Question("", _FIRST[kind], (first, first.removeprefix("the ")), context)
    name = draws.pick(tuple(told))
    known = [relation for relation in _KINDS[kind] if (relation in told[name]) == answerable]
    relation = draws.pick(known)
    asked = draws.pick(relation.asked).format(name)
    aliases: tuple[str, ...] = ()
    if answerable:
        value = told[name][relation]
        aliases = (value, value.split()[1]) if relation.values == "people" else (value,)
    return Question("", asked[0].upper() + asked[1:], aliases, context, answerable)


def _years(told: dict[str, dict[_Relation, str]]) -> dict[str, str]:
    """Return the years, all of four digits, of the subjects that have one."""
    return {
        name: value
        for name, values in told.items()
        for relation, value in values.items()
        if relation.values == "years"
    }
