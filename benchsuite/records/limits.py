"""What a record may hold at most."""

import sys

DEEPEST = 100
"""Levels of lists and objects that a value may nest."""

LARGEST = int(sys.float_info.max)
"""The largest whole number: every reader of JSON can take it for a double."""
