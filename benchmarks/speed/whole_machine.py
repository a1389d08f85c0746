"""One machine with many GPUs, whole: the COLA-Zero study's suite, then one model on all of them.

    python benchmarks/speed/whole_machine.py            # about nine minutes on eight GPUs
    python benchmarks/speed/whole_machine.py --small    # a smoke run, on a CPU too

The suite is a rehearsal of 45 cells at true shapes with random weights, timed from the command to
the prompt. Its efficiency is the seconds of selection, quantization and evaluation by the time that
all GPUs had. Then GPTQ of Llama-2-7B and of Llama-3.1-70B (streamed, all blocks) on every GPU; the
same of 7B, and four blocks of 70B extrapolated, on four and on one, for the curve. Each part prints
as it ends: what a time limit cuts off costs the rest alone.
"""

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import benchsuite

SUITE = "calibration_selection and (llama2 or opt_6_7b) and (gptq_default or random or cola_zero)"
SMALL = "calibration_selection and tiny_llama_1m and seed42 and (random or cola_zero)"
BARS = {8: (300.0, 0.85), 4: (600.0, 0.9)}
"""Seconds from the command to the prompt and efficiency, by number of GPUs."""
STAGES = ("selection", "quant", "evaluation")


def suite(selected: str, reports: Path, *options: str) -> float:
    """Run the suite's cells and return the seconds from the command to the prompt."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "benchsuite.benchmarks", "-q"]
    began = time.perf_counter()
    done = subprocess.run([*command, "-k", selected, f"--reports-dir={reports}", *options])
    print(f"pytest ended with {done.returncode}", flush=True)
    return time.perf_counter() - began


def efficiency(reports: Path, seconds: float, workers: int) -> str:
    """Return how many cells passed and what share of all workers' time their stages took."""
    records = benchsuite.load_records(reports)
    passed = records[records["outcome"] == "passed"]
    worked = float(passed[[f"timings.{stage}" for stage in STAGES]].sum().sum())
    share = worked / (seconds * workers)
    told = f"{len(passed)} cells passed in {seconds:.0f} s on {workers}, efficiency {share:.2f}"
    if workers not in BARS:
        return told
    most, least = BARS[workers]
    met = seconds <= most and share >= least
    return f"{told}; bar {most:.0f} s and {least}: {'met' if met else 'MISSED'}"


def one_model(gpus: Sequence[int], *options: str) -> None:
    """Quantize models on several numbers of GPUs, in a process of its own."""
    script = Path(__file__).with_name("gpus_cuda.py")
    numbers = map(str, gpus)
    done = subprocess.run([sys.executable, str(script), "--gpus", *numbers, *options])
    print(f"gpus_cuda.py {' '.join(options)} ended with {done.returncode}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    small = parser.parse_args().small
    gpus = torch.cuda.device_count()
    if not (gpus or small):
        parser.error("no GPU: only --small runs here")
    name = torch.cuda.get_device_name() if gpus else "no GPU"
    print(f"{name} x {gpus}, torch {torch.__version__}, {datetime.date.today()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder)
        if small:
            seconds = suite(SMALL, reports, "-n", "2")
        else:
            seconds = suite(SUITE, reports, "-n", "auto", "--weights", "random")
        print(efficiency(reports, seconds, gpus or 2), flush=True)
    if small:
        one_model([2, 1], "--small", "--streamed", "any")
        return
    fewer = [n for n in (4, 1) if n < gpus]
    streamed = ("--methods", "--streamed", "llama3_1_70b_instruct")
    one_model([gpus, *fewer], "--shapes", "llama2_7b", "--methods", "gptq_w4")
    one_model([gpus], *streamed, "--whole")
    one_model(fewer, *streamed, "--layers", "3")


if __name__ == "__main__":
    main()
