"""Any two models beside each other, item by item."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "PairedItems": "pairs",
        "EarlyEnd": "early",
        "Verdict": "verdict",
        "judge": "verdict",
        "parse_margins": "kinds",
    },
)
