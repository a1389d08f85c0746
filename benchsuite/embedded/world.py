"""The closed world's people and facts, invented once from a fixed seed.

Some people are often spoken of and most are rarely, as in real text, so a small model knows some
facts well, some barely and some not at all.
"""

from bisect import bisect
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from benchsuite.embedded.draws import Draws
from benchsuite.embedded.schema import Question

N_PEOPLE = 800
_HALF_LIFE = 90  # ranks after which fame has halved

_ONSETS = ("b", "br", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u", "ei", "au")
_TOWN_ENDS = ("by", "dal", "ford", "gard", "holm", "mont", "nor", "stad", "ton", "wick")
_NAME_ENDS = ("berg", "den", "kin", "lund", "man", "ner", "ros", "sen", "ska", "vik")

FIRST_NAMES = (
    *("Ada", "Aron", "Bela", "Bruno", "Carla", "Cyril", "Dora", "Edgar", "Elsa", "Emil", "Ester"),
    *("Felix", "Flora", "Gerda", "Hanna", "Hugo", "Ida", "Igor", "Irma", "Ivan", "Jana", "Jonas"),
    *("Karin", "Karl", "Lena", "Leo", "Lotte", "Lukas", "Magda", "Marta", "Max", "Mila", "Nora"),
    *("Olga", "Oscar", "Otto", "Paula", "Petra", "Ralf", "Rosa", "Rudolf", "Selma", "Sonja"),
    *("Tilda", "Tomas", "Vera", "Viktor", "Wanda"),
)
PROFESSIONS = (
    *("actor player", "baker bread-maker", "banker financier", "barber hairdresser"),
    *("botanist plant-scholar", "builder mason", "carpenter joiner", "chemist druggist"),
    *("dentist tooth-doctor", "diver pearl-diver", "doctor physician", "farmer grower"),
    *("gardener groundsman", "glazier glass-maker", "hunter trapper", "jeweller goldsmith"),
    *("judge magistrate", "lawyer advocate", "librarian book-keeper", "locksmith key-maker"),
    *("miller flour-maker", "miner digger", "nurse sister", "painter artist", "pilot aviator"),
    *("poet bard", "potter ceramist", "printer typesetter", "sailor seaman", "sculptor carver"),
    *("shepherd herder", "singer vocalist", "smith blacksmith", "surgeon operator"),
    *("tailor dressmaker", "teacher schoolmaster", "weaver cloth-maker", "writer author"),
)
INSTRUMENTS = (
    *("accordion squeezebox", "bassoon fagott", "bugle post-horn", "cello violoncello"),
    *("clarinet blackpipe", "drum tabor", "flute fife", "gong tam-tam", "guitar gittern"),
    *("harp lyre", "horn waldhorn", "lute theorbo", "oboe hautboy", "organ pipe-organ"),
    *("piano fortepiano", "recorder blockflute", "trombone sackbut", "trumpet clarion"),
    *("tuba bombardon", "viola bratsche", "violin fiddle", "zither cithara"),
)

# Per relation: its questions (one of them is held out of training for each fact).
QUESTIONS: dict[str, tuple[str, str, str]] = {
    "town": (
        "In which town was {0} born?",
        "What is the birthplace of {0}?",
        "{0} was born in which town?",
    ),
    "year": ("In what year was {0} born?", "When was {0} born?", "{0} was born in what year?"),
    "profession": (
        "What was the profession of {0}?",
        "What did {0} do for a living?",
        "{0} worked as what?",
    ),
    "instrument": (
        "Which instrument did {0} play?",
        "What instrument was played by {0}?",
        "{0} played which instrument?",
    ),
    "teacher": ("Who taught {0}?", "Who was the teacher of {0}?", "{0} was a pupil of whom?"),
}


@dataclass(frozen=True)
class Fact:
    """One fact: who, which relation, the accepted answers, and the wording kept for the tests."""

    person: str
    relation: str
    aliases: tuple[str, ...]
    held_out: int

    def question(self, wording: int, item_id: str) -> Question:
        """Return the fact asked in one of its relation's three wordings."""
        return Question(
            item_id, QUESTIONS[self.relation][wording].format(self.person), self.aliases
        )


@cache
def towns() -> tuple[str, ...]:
    """Return the 120 towns."""
    return _invent("towns", 120, _TOWN_ENDS)


@cache
def people() -> tuple[str, ...]:
    """Return the people's names, the most famous first; every full name is unique."""
    surnames = _invent("surnames", 300, _NAME_ENDS)
    names = [f"{first} {last}" for last in surnames for first in FIRST_NAMES]
    return tuple(Draws("people").sample(names, N_PEOPLE))


@cache
def facts() -> tuple[Fact, ...]:
    """Return every fact, five to a person, in the order of fame."""
    draws = Draws("facts")
    result = []
    for person in people():
        teacher = draws.pick(people())
        town = draws.pick(towns())
        answers = {
            "town": (town, f"{town} Town"),
            "year": (str(draws.between(1700, 1959)),),
            "profession": _synonyms(draws.pick(PROFESSIONS)),
            "instrument": _synonyms(draws.pick(INSTRUMENTS)),
            "teacher": (teacher, teacher.split()[1]),
        }
        for relation, aliases in answers.items():
            result.append(Fact(person, relation, aliases, draws.below(3)))
    return tuple(result)


def popular_fact(draws: Draws) -> Fact:
    """Return a fact as often as its person is spoken of."""
    cumulated = _fame()
    person = bisect(cumulated, draws.fraction() * cumulated[-1])
    relations = len(QUESTIONS)
    return facts()[person * relations + draws.below(relations)]


@cache
def _fame() -> tuple[float, ...]:
    return tuple(accumulate(2 ** (-rank / _HALF_LIFE) for rank in range(N_PEOPLE)))


def _synonyms(words: str) -> tuple[str, ...]:
    return tuple(words.replace("-", " ") for words in words.split())


def _invent(kind: str, n: int, ends: tuple[str, ...]) -> tuple[str, ...]:
    draws = Draws(kind)
    names: dict[str, None] = {}
    while len(names) < n:
        name = draws.pick(_ONSETS) + draws.pick(_VOWELS) + draws.pick(("", "l", "n", "r"))
        names[(name + draws.pick(ends)).capitalize()] = None
    return tuple(names)
