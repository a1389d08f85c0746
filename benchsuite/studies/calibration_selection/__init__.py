"""The study ``calibration_selection``: its declaration, its report, its figures."""
