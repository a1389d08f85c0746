"""What is run: studies, their cells, parameters, metrics and claims. Plain data without torch."""

from benchsuite.study.cell import Cell
from benchsuite.study.claim import (
    Claim,
    cv_below,
    equivalent,
    higher,
    identical,
    lower,
    ranks_better,
    true,
)
from benchsuite.study.column import Column
from benchsuite.study.document import Document, Published
from benchsuite.study.margins import parse_margin, use_margins
from benchsuite.study.metric import ACCURACY, KL, PERPLEXITY, Cost, Metric
from benchsuite.study.parameter import Parameter, parse_setting
from benchsuite.study.registry import (
    STUDIES,
    names,
    register,
    register_study,
    study,
)
from benchsuite.study.study import Axis, Study, Tour

__all__ = [
    "ACCURACY",
    "KL",
    "PERPLEXITY",
    "STUDIES",
    "Axis",
    "Cell",
    "Claim",
    "Column",
    "Cost",
    "Document",
    "Metric",
    "Parameter",
    "Published",
    "Study",
    "Tour",
    "cv_below",
    "equivalent",
    "higher",
    "identical",
    "lower",
    "names",
    "parse_margin",
    "parse_setting",
    "ranks_better",
    "register",
    "register_study",
    "study",
    "true",
    "use_margins",
]
