"""Asks for benchsuite's options, its fixtures and its reports."""

pytest_plugins = ["benchsuite.plugin"]
