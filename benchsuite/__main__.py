"""``python -m benchsuite`` is the ``benchsuite`` command."""

import sys

from benchsuite.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
