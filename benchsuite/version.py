"""The version of the installed package; a module of its own, so that no measuring code holds it."""

from importlib.metadata import version

__version__ = version("benchsuite")
