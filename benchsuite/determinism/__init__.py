"""Is inference deterministic? Repetition along one axis at a time, numbers, kernels, a verdict."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Repeated": "axes",
        "Variant": "variants",
        "VARIANTS": "variants",
        "batch_invariance": "axes",
        "classified": "kernels",
        "compared": "numbers",
        "cross_variant": "document",
        "document": "document",
        "kernels_seen": "axes",
        "l2": "numbers",
        "read": "document",
        "repeat": "axes",
        "register_variant": "variants",
        "prefill_scoring": "axes",
        "rates": "verification",
        "report": "document",
        "serve": "verification",
        "Served": "verification",
        "statistics": "numbers",
        "variant": "variants",
    },
)
