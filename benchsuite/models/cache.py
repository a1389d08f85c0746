"""Where what was downloaded or made of a download is kept, for all projects of a user."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return ``benchsuite`` in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "benchsuite"
