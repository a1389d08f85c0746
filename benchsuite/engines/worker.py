"""The script that an engine's process runs: ``python worker.py MODULE``.

Started by its path, because the interpreter need not have benchsuite installed.
"""

import importlib
import sys
import traceback
from pathlib import Path


def main() -> None:
    """Import the engine's module at once, so that a process may be started ahead, and serve it."""
    # Python put the script's folder first; nothing beside this file is to be a top-level module,
    # and of the folder that holds benchsuite nothing else may stand before the engine's packages.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from benchsuite.engines.protocol import Broken, serve

    del sys.path[0]
    try:
        engine = importlib.import_module(sys.argv[1]).Engine()
    except Exception as error:  # told to whoever asks first
        traceback.print_exc()
        engine = Broken(error)
    serve(engine)


if __name__ == "__main__":
    main()
