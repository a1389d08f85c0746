"""Every prompt of the embedded tasks, in one place for training, evaluation and examples.

A prompt ends in a colon and its completion begins with a blank (or, for steps as equations, the
prompt ends its line), so the tokens of a prompt do not depend on what follows. Blocks are
separated by a blank line; nothing else contains one.
"""

from collections.abc import Sequence

from benchsuite.embedded.schema import Choice, Item, Problem, Question

BRIEFLY = "Answer the following question as briefly as possible."
NO_ANSWER = "no answer"
ANSWER_IS = "The answer is:"
IN_WORDS = "In words:"
LETTERS = "ABCD"


def prompt(item: Item, *, examples: Sequence[Item] = (), form: str = "letters") -> str:
    """Return the prompt that an item's ``completion`` follows, after worked examples if any.

    ``form`` concerns choices alone: ``letters`` lists the options and asks for a letter, ``full``
    asks for the option and its letter, ``listed`` shows the options without letters, ``text`` does
    not show them.
    """
    blocks = [block(example, form=form) for example in examples]
    if isinstance(item, Question):
        blocks.insert(0, BRIEFLY)
    return "\n\n".join([*blocks, _opening(item, form)])


def completion(item: Item, *, form: str = "letters") -> str:
    """Return what should follow the prompt, up to the end of its block."""
    if isinstance(item, Question):
        return " " + (item.aliases[0] if item.answerable else NO_ANSWER)
    if isinstance(item, Choice):
        letter, text = LETTERS[item.answer], item.choices[item.answer]
        return " " + {"letters": letter, "full": f"{text} ({letter})"}.get(form, text)
    blank = " " if _in_words(item) else ""
    return blank + " ".join(item.steps) + f"\n{ANSWER_IS} {item.answer}"


def block(item: Item, *, form: str = "letters") -> str:
    """Return an item with its answer, as a worked example."""
    return _opening(item, form) + completion(item, form=form)


def _opening(item: Item, form: str) -> str:
    if isinstance(item, Problem):
        return f"{item.question}\n" + (IN_WORDS if _in_words(item) else "")
    if isinstance(item, Choice):
        asked = "In full:" if form == "full" else "Answer:"
        return f"Question: {item.question}{_options(item, form)}\n{asked}"
    context = f"Context: {item.context}\n" if item.context else ""
    return f"{context}Question: {item.question}\nAnswer:"


def _options(item: Choice, form: str) -> str:
    if form in ("letters", "full"):
        pairs = zip(LETTERS, item.choices, strict=False)
        return "\nChoices:" + "".join(f"\n{letter}. {text}" for letter, text in pairs)
    return f"\nChoices: {', '.join(item.choices)}" if form == "listed" else ""


def _in_words(problem: Problem) -> bool:
    return not any(step.startswith("<<") for step in problem.steps)
