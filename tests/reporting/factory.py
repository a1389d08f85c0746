"""Records as the store gives them, built from numbers that a test chooses."""

import dataclasses
import hashlib
import json
from collections.abc import Callable

import numpy as np

from benchsuite import catalog
from benchsuite.records.columns import parquet
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import as_text, flat, nested, sealed
from benchsuite.records.record import CellFacts, Failure, Items, Record, Source, Times
from benchsuite.reporting.results import StudyResults
from benchsuite.study import study
from benchsuite.study.cell import Cell

CALIBRATION = "calibration_selection"
MEANS = {
    "gptq_default": 5.80,
    "random": 5.79,
    "cola_zero": 5.72,
    "cola_balanced": 5.73,
    "stratified": 5.78,
    "activation_clusters": 5.75,
    "self_generated": 5.77,
    "noise_tokens": 9.4,
    "shuffled_hessian": 8.1,
}

# A record as the calibration document's own scripts write it.
DOCUMENT = {
    "model": "meta-llama/Llama-2-7b-hf",
    "method": "cola_zero",
    "seed": 42,
    "n_calibration_samples": 128,
    "seq_len": 2048,
    "quant_bits": 4,
    "group_size": 128,
    "selection_time_sec": 165.14,
    "quant_time_sec": 755.78,
    "total_time_sec": 920.92,
    "perplexity": 5.70,
    "downstream": {"arc_easy": None, "average": None},
}


ENVIRONMENT = {
    "python": "3.11.9",
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "platform": "Linux x86_64",
    "device": "NVIDIA H200",
    "device_kind": "cuda",
    "capability": "9.0",
    "driver": "570.1",
    "threads": 1,
    "benchsuite": "0.1.0",
}
ON_A_CPU = {"environment": {**ENVIRONMENT, "device_kind": "cpu", "device": "Xeon"}}


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def record(cell: Cell, perplexity=5.7, **changes):
    """Return a passed record of a cell; ``changes`` are fields of it, its source or its values.

    ``contended`` and ``failure=(stage, message)`` are changes too.
    """
    embedded = catalog.model(cell.model).embedded
    source = Source("embedded" if embedded else "hub", hub_id=catalog.model(cell.model).hub_id)
    own = {k: changes.pop(k) for k in ("weights", "stand_in") if k in changes}
    failure = changes.pop("failure", None)
    stages = {"selection": 165.14, "quant": 755.78, "evaluation": 20.5}
    tasks = dict.fromkeys(("arc_easy", "hellaswag", "mmlu", "winogrande", "average"))
    values = {
        "perplexity": perplexity,
        "downstream": tasks,
        "weights_sha256": digest(perplexity),
    }
    fields = {field.name for field in dataclasses.fields(Record)}
    made = {
        "cell": CellFacts.of(cell),
        "fingerprint": Fingerprint(digest(cell.name), "c", "e"),
        "source": dataclasses.replace(source, **own),
        "environment": ENVIRONMENT,
        "times": Times(stages, making=941.42, contended=changes.pop("contended", False)),
        "outcome": "passed" if failure is None else "failed",
        "failure": None if failure is None else Failure(failure[1], failure[0]),
        "started_at": "2025-11-20T22:06:00+00:00",
        "peak_memory_bytes": 17 * 2**30,
        "results_sha256": digest("results", perplexity),
        "sha256": digest("record", cell.name, perplexity),
    }
    made |= {k: changes.pop(k) for k in list(changes) if k in fields}
    return Record(**{"values": {**values, **changes}, **made})


def grid(*models, methods=None, seeds=None, settings=None, tour=False):
    """Return the calibration study's cells of some models and methods."""
    cells = study(CALIBRATION).cells(seeds=seeds, settings=settings, tour=tour)
    wanted = set(methods or MEANS)
    return [c for c in cells if c.model in models and c.method in wanted]


def drawn(cells, *, std=0.05, means=MEANS, rng_seed=0, change: Callable = lambda cell: {}):
    """Return records whose perplexities scatter around each method's mean."""
    rng = np.random.default_rng(rng_seed)
    made = {}
    for cell in cells:
        noise = 0.0 if cell.method == "gptq_default" else std * float(rng.normal())
        made[cell.id] = record(cell, means[cell.method] + noise, **change(cell))
    return made


def results(cells, records=None, *, judge=True, **fields):
    """Return study results over a grid, judged; what has no record is missing."""
    from benchsuite.reporting import judge_study

    records = drawn(cells) if records is None else records
    absent = [c.id for c in cells if c.id not in records]
    taken = {*fields.get("stale", {}), *fields.get("failed", {})}
    made = StudyResults(
        study(CALIBRATION),
        cells,
        records,
        missing=[i for i in absent if i not in taken],
        **fields,
    )
    made.judgements = judge_study(made) if judge else []
    return made


def stored(folder, records):
    """Write records, or objects that are none, into a new folder: a file each, named by keys.

    The store's own folder holds them in its own form, under their fingerprints.
    """
    folder.mkdir(parents=True)
    for name, found in records.items():
        if not isinstance(found, Record):
            (folder / f"{name}.json").write_text(json.dumps(found))
        elif folder.name == "records":
            path = folder / f"{found.fingerprint.value}.json"
            path.write_bytes(as_text(sealed(nested(found))))
        else:
            (folder / f"{name}.json").write_bytes(as_text(sealed(flat(found))))


def stored_with_items(folder, records, columns):
    """Write records into a new record folder of a store, each with a side file of its columns."""
    made, sides = {}, {}
    for name, found in records.items():
        side = f"{found.fingerprint.value}.{digest(name)[:8]}.parquet"
        sides[side] = parquet(columns(found))
        made[name] = dataclasses.replace(found, items=Items(side, (), None))
    stored(folder, made)
    for side, content in sides.items():
        (folder / side).write_bytes(content)


def undescribed(reports):
    """Return the columns of a folder's records and items of which nobody says what they are."""
    from benchsuite.reporting import load_items, load_records
    from benchsuite.reporting.frame_columns import ITEMS, RECORDS, UNSAID, described

    records, items = load_records(reports), load_items(reports)
    studies = [study(name) for name in records["cell.study"].unique()]
    told = described(records.columns, RECORDS, studies) + described(items.columns, ITEMS, studies)
    return [column.name for column in told if column.meaning == UNSAID]
