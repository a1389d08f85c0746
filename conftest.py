"""Loads the fixtures that the benchmarks' cells are made of."""

pytest_plugins = [
    "benchsuite.fixtures.calibration",
    "benchsuite.fixtures.engines",
    "benchsuite.fixtures.latent",
    "benchsuite.fixtures.models",
    "benchsuite.fixtures.record",
    "benchsuite.fixtures.tasks",
    "benchsuite.fixtures.uncertainty",
]
