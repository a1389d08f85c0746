"""Samplers: which text a quantizer sees. One file each, found by name through ``registry``."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "CalibrationPool": "pool",
        "FeatureCache": "pool",
        "MemoryFeatureCache": "pool",
        "ScoringModel": "pool",
        "Selection": "pool",
        "SAMPLERS": "registry",
        "checked": "registry",
        "register_sampler": "registry",
        "sampler": "registry",
        "sampler_module": "registry",
    },
)
