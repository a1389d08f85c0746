"""The script that an engine's process runs: ``python worker.py MODULE DESCRIPTOR``.

Started by its path, because the interpreter need not have benchsuite installed. DESCRIPTOR is the
inherited socket on which it is asked and answers.
"""

import importlib
import socket
import sys
import traceback
from pathlib import Path


def main() -> None:
    """Import the engine's module at once, so that a process may be started ahead, and serve it."""
    # Python put the script's folder first; nothing beside this file is to be a top-level module,
    # and of the folder that holds benchsuite nothing else may stand before the engine's packages.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from benchsuite.engines.keeper import keep
    from benchsuite.engines.protocol import Broken, serve

    del sys.path[0]
    channel = _channel(int(sys.argv[2]))
    keep(channel)
    # Line by line, or what a library printed would be lost when its process is killed.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        engine = importlib.import_module(sys.argv[1]).Engine()
    except Exception as error:  # told to whoever asks first
        traceback.print_exc()
        engine = Broken(error)
    serve(engine, channel)


def _channel(descriptor: int) -> socket.socket:
    try:
        channel = socket.socket(fileno=descriptor)
    except OSError as error:
        sys.exit(
            f"{sys.executable} was started without the descriptor {descriptor} ({error.strerror}): "
            "name the interpreter itself, or a script that runs it with exec"
        )
    channel.set_inheritable(False)
    return channel


if __name__ == "__main__":
    main()
