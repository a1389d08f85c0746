"""The ``benchsuite`` command line, a file per command."""
