"""What a record may hold at most."""

import sys

DEEPEST = 100
"""Levels of lists and objects that a value may nest."""

LARGEST_FILE = 2**28
"""Bytes of a record's file. Evidence by item lies beside it, in a file of its own."""

LARGEST = int(sys.float_info.max)
"""The largest whole number: every reader of JSON can take it for a double."""
