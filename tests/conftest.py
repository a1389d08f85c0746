"""Shared by all tests: pytester for real pytest runs."""

pytest_plugins = ["pytester"]
