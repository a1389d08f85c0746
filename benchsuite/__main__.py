"""``python -m benchsuite`` is the ``benchsuite`` command."""

import sys

from benchsuite.commands.main import main

sys.exit(main())
