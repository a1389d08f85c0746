"""Imports the declarations of the studies that ship with the project, which registers them.

A module of its own, because the rooms of a study hold measuring code too: importing that must not
bring in, and so not depend on, what is declared.
"""

import benchsuite.studies.calibration_selection.declaration
import benchsuite.studies.determinism.declaration
import benchsuite.studies.latent_reasoning.declaration
import benchsuite.studies.quantizers.declaration
import benchsuite.studies.uncertainty.declaration  # noqa: F401
