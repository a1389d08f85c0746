"""The earlier name of ``benchsuite train``."""

import runpy
import sys

if __name__ == "__main__":
    print("python -m benchsuite.latent is `benchsuite train` now", file=sys.stderr)
    sys.argv = ["benchsuite", "train", *sys.argv[1:]]
    runpy.run_module("benchsuite", run_name="__main__")
