"""The earlier name of ``benchsuite determinism``."""

import runpy
import sys

if __name__ == "__main__":
    print("python -m benchsuite.determinism is `benchsuite determinism` now", file=sys.stderr)
    sys.argv = ["benchsuite", "determinism", *sys.argv[1:]]
    runpy.run_module("benchsuite", run_name="__main__")
