"""A model's own Python code (``auto_map`` in its configs) runs where it is trusted by name only."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchsuite.errors import CellCannotRun


@contextmanager
def refused(where: str) -> Iterator[None]:
    """Turn transformers' refusal to run a folder's own code into ``CellCannotRun``.

    transformers refuses only where ``trust_remote_code=False`` is given to the call inside: left
    out, it asks at the terminal. Where it knows the architecture itself, it uses its own class.
    """
    try:
        yield
    except Exception as error:  # a ValueError; wrapped in others by some of the classes
        if "trust_remote_code" not in str(error):
            raise
        raise CellCannotRun(
            "the model brings its own Python code, which is not run unasked",
            where,
            "Read that code, then allow it with --trust-remote-code MODEL (verify and compare "
            "take --trust-remote-code alone)",
        ) from error
