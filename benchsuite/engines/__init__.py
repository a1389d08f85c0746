"""Inference engines as processes: what they are, how they are asked, the engines themselves."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "ENGINES": "registry",
        "EngineEntry": "registry",
        "EngineError": "process",
        "EngineProcess": "process",
        "Generated": "process",
        "Launcher": "launcher",
        "agreement": "agreement",
        "engine": "registry",
        "register_engine": "registry",
        "serving": "serving",
    },
)
