"""The studies that ship with the project, one file each, registered on import."""

from benchsuite.studies import (
    calibration_selection,
    determinism,
    latent_reasoning,
    quantizers,
    uncertainty,
)

__all__ = [
    "calibration_selection",
    "determinism",
    "latent_reasoning",
    "quantizers",
    "uncertainty",
]
