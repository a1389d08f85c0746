"""What is run: studies, their cells, parameters, metrics and claims. Plain data without torch."""

from benchsuite.study.cell import Cell
from benchsuite.study.study import (
    LEAST,
    STUDIES,
    Axis,
    Claim,
    Study,
    Tour,
    cv_below,
    equivalent,
    higher,
    identical,
    lower,
    names,
    parse_setting,
    ranks_better,
    register,
    study,
    true,
)

__all__ = [
    "LEAST",
    "STUDIES",
    "Axis",
    "Cell",
    "Claim",
    "Study",
    "Tour",
    "cv_below",
    "equivalent",
    "higher",
    "identical",
    "lower",
    "names",
    "parse_setting",
    "ranks_better",
    "register",
    "study",
    "true",
]
