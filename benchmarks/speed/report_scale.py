"""How the report's time, memory and size grow with the number of records.

Writes stores of made-up records (20 methods and 50 seeds on a growing number of models), then
reads, judges and writes the report over each in a process of its own.

    python benchmarks/speed/report_scale.py --records 1000,10000,100000
"""

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchsuite.catalog import ModelEntry, register
from benchsuite.records import environment
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.records.forms import as_text, nested, sealed
from benchsuite.records.record import CellFacts, Record, Source, Times
from benchsuite.study import Study, cv_below, lower
from benchsuite.study import register as register_study

METHODS = tuple(f"method_{i:02d}" for i in range(20))
SEEDS = tuple(range(50))
PARAMETERS = {"n_calibration_samples": 128, "seq_len": 2048, "quant_bits": 4, "group_size": 128}
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def declare(n_models: int) -> Study:
    """Register the made-up models and the study over them."""
    models = tuple(f"made_up_{i:03d}" for i in range(n_models))
    for name in models:
        register(ModelEntry(name, f"made/{name}", "llama", SHAPE, "float32", embedded=True))
    pairs = itertools.pairwise(METHODS)
    claims = [lower("perplexity", a, than=b) for a, b in pairs]
    claims += [cv_below("perplexity", method, 2.0) for method in METHODS]
    axes = {"model": models, "method": METHODS}
    return register_study(Study("made_up", "How far?", axes, SEEDS, PARAMETERS, claims=claims))


def write_store(study: Study, folder: Path) -> None:
    """Write one record per cell, of the size that real ones have."""
    facts = environment.describe(environment.cpu(), 1)
    records = folder / "store/records"
    records.mkdir(parents=True)
    draw = random.Random(0)
    for cell in study.cells():
        perplexity = 5.7 + 0.02 * METHODS.index(cell.method) + draw.gauss(0, 0.05)
        stages = {"selection": draw.uniform(1, 2), "quant": draw.uniform(20, 21)}
        tasks = dict.fromkeys(("arc_easy", "hellaswag", "mmlu", "winogrande", "average"))
        record = Record(
            cell=CellFacts.of(cell),
            fingerprint=Fingerprint(digest(cell.name), "c", "e"),
            environment=facts,
            source=Source("embedded", weights_digest=digest(cell.model), hub_id=cell.model),
            times=Times(stages, making=sum(stages.values())),
            values={
                "perplexity": perplexity,
                "downstream": tasks,
                "weights_sha256": digest(perplexity),
            },
            started_at="2026-11-20T22:06:00.000+00:00",
            peak_memory_bytes=2**31,
            results_sha256=digest(perplexity),
        )
        path = records / f"{record.fingerprint.value}.json"
        path.write_bytes(as_text(sealed(nested(record))))


def report(folder: Path) -> dict[str, float]:
    """Read, judge and report; return seconds of each part, peak memory and the page's size."""
    from benchsuite.reporting import judge_study, write_report
    from benchsuite.reporting.merging import read_sources, results_of

    marks, processor = [time.perf_counter()], time.process_time()
    sources = read_sources([folder])
    marks.append(time.perf_counter())
    (results,) = results_of(sources, folder)
    marks.append(time.perf_counter())
    results.judgements = judge_study(results, columns=sources.columns)
    marks.append(time.perf_counter())
    page = write_report(folder, [results], columns=sources.columns)
    marks.append(time.perf_counter())
    read, match, judge, write = (b - a for a, b in itertools.pairwise(marks))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = page.stat().st_size / 2**20
    parts = {"read": read, "match": match, "judge": judge, "write": write}
    busy = time.process_time() - processor
    total = {"total": marks[-1] - marks[0], "processor": busy}
    return {**parts, **total, "GiB": peak, "page MiB": size}


def main() -> None:
    """Print one row per number of records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", default="1000,10000,100000")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = [int(count) for count in options.records.split(",")]
    if options.only:
        declare(counts[0] // 1000)
        print(json.dumps(report(options.only)))
        return
    print(
        "| records | read s | match s | judge s | write s | total s | of it CPU s "
        "| peak GiB | page MiB |"
    )
    print("|---" * 9 + "|")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_store(declare(count // 1000), folder)
            command = [sys.executable, __file__, "--records", str(count), "--only", name]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(ran.stdout.splitlines()[-1])
            print(f"| {count} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    print(f"\n{environment.cpu().name}, one thread")


if __name__ == "__main__":
    main()
