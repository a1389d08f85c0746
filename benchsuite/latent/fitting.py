"""Rows and questions beyond the positions that a model knows are refused.

Beyond them it predicts what it never learnt to, and nothing in a number would show that.
"""

from collections.abc import Sequence

from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation.fitting import context_of
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Example, Format
from benchsuite.latent.network import Context, Reasoner


def refuse_long_rows(net: Reasoner, form: Format, examples: Sequence[Example]) -> None:
    """Raise ``UsageError`` where a whole row, from question to end of text, exceeds the context."""
    context = context_of(net.lm)
    # The marker and the end of text are no part of what ``data.max_tokens`` counts.
    beside = len(form.marker) + 1
    longest = max((each.n_tokens for each in examples), default=0)
    if context is not None and longest + beside > context:
        raise UsageError(
            f"a row of the training or validation split has {longest + beside} tokens, and the "
            f"model knows {context} positions",
            fix="leave such rows out of the files, or of the training with data.max_tokens="
            f"{context - beside}",
        )


def refuse_long_questions(
    net: Reasoner,
    form: Format,
    config: Config,
    problems: Sequence[Problem],
    worked: Sequence[Problem] = (),
) -> None:
    """Raise ``UsageError`` where a question leaves no room for its answer in the context.

    What a method thinks takes room of its own, which ``refuse_long_thoughts`` counts.
    """
    if problems:
        lengths = [len(each.question) for each in form.encode(problems, worked)]
        longest = max(range(len(problems)), key=lengths.__getitem__)
        _refuse(net, config, lengths[longest], f"question {problems[longest].id}")


def refuse_long_thoughts(net: Reasoner, config: Config, context: Context) -> None:
    """Raise ``UsageError`` where a question and what was thought of it leave no room."""
    longest = int(context.mask.sum(1).max())
    _refuse(net, config, longest, "a question with what is thought of it")


def _refuse(net: Reasoner, config: Config, length: int, what: str) -> None:
    context, new = context_of(net.lm), config.evaluation.max_new_tokens
    if context is not None and length + new > context:
        shown = config.data.worked_examples
        raise UsageError(
            f"{what} has {length} tokens{f' behind {shown} worked examples' if shown else ''}: "
            f"with {new} of an answer it exceeds the {context} positions that the model knows",
            fix="leave it out of the file, or lower evaluation.max_new_tokens"
            + (" or data.worked_examples" if shown else ""),
        )
