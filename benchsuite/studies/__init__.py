"""The studies that ship with the project: a folder each, with declaration, report and figures."""

import benchsuite.studies.calibration_selection.declaration
import benchsuite.studies.determinism.declaration
import benchsuite.studies.latent_reasoning.declaration
import benchsuite.studies.quantizers.declaration
import benchsuite.studies.uncertainty.declaration  # noqa: F401
