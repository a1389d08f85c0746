"""Names to studies: those that ship with the project, and a user's own."""

import importlib

from benchsuite.errors import UsageError, unknown_name
from benchsuite.study.declared import check_claimed_methods
from benchsuite.study.study import Study

STUDIES: dict[str, Study] = {}
"""The studies registered so far; ``names`` registers the shipped ones too."""

# Imported by name, as samplers and reporters are: what is run knows no study, and a project that
# registers its own finds ours beside them.
SHIPPED = "benchsuite.studies.shipped"


def register_study(study: Study) -> Study:
    """Add a study, or replace the one of its name; a user's own ``conftest.py`` calls this too.

    A claim over a method that the study has not, and that one of its name did not have before, is a
    usage error naming the nearest.
    """
    before = STUDIES[study.name].axes if study.name in STUDIES else {}
    if "method" in study.axes:
        methods = study.axes["method"]
        check_claimed_methods(study.name, study.claims, methods, before.get("method", ()))
    STUDIES[study.name] = study
    return study


register = register_study
"""The earlier name of ``register_study``."""


def names() -> tuple[str, ...]:
    """Return the names of all studies, those that ship with the project and the user's own."""
    importlib.import_module(SHIPPED)
    return tuple(STUDIES)


def study(name: str) -> Study:
    """Return a registered study; an unknown name is a usage error naming the nearest."""
    if name not in names():
        error = unknown_name("study", name, names())
        own = "One of your own: run this where the conftest.py is that registers it"
        raise UsageError(error.what, error.where, f"{error.fix}. {own}")
    return STUDIES[name]
