"""Names to samplers: plain data, so that a study can be declared without torch.

A new sampler is one file with a ``select`` function and one line here, or one call of
``register_sampler`` in a user's own ``conftest.py``.
"""

import importlib
from collections.abc import Callable
from typing import Any

from benchsuite.errors import BenchsuiteError
from benchsuite.registry import Registry, check_target

SAMPLERS = Registry(
    "sampler",
    {
        "gptq_default": "benchsuite.calibration.gptq_default:select",
        "random": "benchsuite.calibration.random_chunks:select",
        "stratified": "benchsuite.calibration.stratified:select",
        "cola_zero": "benchsuite.calibration.cola_zero:select",
        "cola_balanced": "benchsuite.calibration.cola_balanced:select",
        "activation_clusters": "benchsuite.calibration.activation_clusters:select",
        "self_generated": "benchsuite.calibration.self_generated:select",
        # Negative controls. The second takes the text of `random`; its cell shuffles the Hessian.
        "noise_tokens": "benchsuite.calibration.noise_tokens:select",
        "shuffled_hessian": "benchsuite.calibration.random_chunks:select",
    },
)
"""Every sampler by its name: ``module:function``."""


def register_sampler(name: str, target: str) -> None:
    """Add a sampler under ``name``; ``target`` is ``module:function``, imported on first use.

    Raises ``UsageError`` for a name that stands for another sampler, or a malformed target.
    """
    check_target("sampler", name, target)
    SAMPLERS.add(name, target)


def sampler(name: str) -> Callable[..., Any]:
    """Return a sampler's ``select(pool, n_samples, seq_len, seed, **options) -> Selection``."""
    module, function = SAMPLERS.find(name).split(":")
    return getattr(importlib.import_module(module), function)


def checked(name: str, found: Any, n_samples: int, seq_len: int) -> Any:
    """Return what a sampler selected; raise ``BenchsuiteError`` for what is none of this size.

    One of one's own that is a sequence short would be compared with methods that calibrate on more.
    """
    batch = getattr(found, "batch", None)
    wanted = f"a Selection whose batch is int64 [{n_samples}, {seq_len}]"
    if batch is None or not hasattr(found, "details"):
        told = f"a {type(found).__name__}"
    elif tuple(batch.shape) == (n_samples, seq_len) and str(batch.dtype) == "torch.int64":
        return found
    else:
        told = f"a batch of {str(batch.dtype).removeprefix('torch.')} {list(batch.shape)}"
    raise BenchsuiteError(f"the sampler {name!r} returned {told}", fix=f"return {wanted}")


def sampler_module(name: str) -> str:
    """Return the module that defines a sampler, without importing it."""
    return SAMPLERS.find(name).split(":")[0]
