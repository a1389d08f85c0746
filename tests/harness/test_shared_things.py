"""What cells share, drawn batches, features, answers, is known by all that it is of."""

import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchsuite.fixtures.calibration import _StoredFeatures

from benchsuite.calibration.registry import SAMPLERS
from benchsuite.catalog import Sources
from benchsuite.determinism.variants import VARIANTS, Variant
from benchsuite.engines.registry import ENGINES, EngineEntry
from benchsuite.harness import inputs
from benchsuite.quantizers.registry import QUANTIZERS, Quantizer
from benchsuite.records.reading import read
from benchsuite.records.store import Store
from benchsuite.study import study
from tests import forked

ROOT = Path(__file__).parents[2]
STUDY = """
from benchsuite.study import Study, register

for name, n in (("few", 4), ("more", 6)):
    settings = {"calibration_corpus": "embedded_text", "scoring_model": "tiny_llama_1m"}
    settings |= {"pool_documents": 64, "n_calibration_samples": n, "seq_len": 32}
    axes = {"model": ("tiny_llama_1m",), "method": ("random",)}
    register(Study(name, "Is it its own batch?", axes, (42,), settings))

pytest_plugins = ["benchsuite.plugin"]
pytest_plugins += [f"benchsuite.fixtures.{part}" for part in ("record", "models", "calibration")]
"""
CELL = """
import pytest

@pytest.mark.study("{name}")
def test_{name}(cell, model, calibrate, record):
    with record.stage("selection"):
        batch = calibrate("random", cell.seed)
    record.update(drawn=list(batch.shape))
"""


@pytest.mark.stress
def test_two_studies_of_one_session_draw_their_own_batches(tmp_path):
    """The second was handed the first one's, for its own defaults were no part of the name."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(STUDY)
    for name in ("few", "more"):
        (tmp_path / f"benchmarks/test_{name}.py").write_text(CELL.format(name=name))
    command = [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider"]
    done = forked.run(command, tmp_path)
    assert done.returncode == 0, done.stdout
    records = [read(p.read_bytes()) for p in (tmp_path / "reports/store/records").glob("*.json")]
    assert {r.cell.study: r.values["drawn"] for r in records} == {"few": [4, 32], "more": [6, 32]}


def test_features_are_made_anew_for_another_environment(tmp_path):
    """A newer library made a cell stale, which was then measured with the older one's features."""
    store, built = Store(tmp_path), []
    store.prepare()

    def build():
        built.append(1)
        return {"rows": np.ones(2)}

    for version in ("1.7", "1.8", "1.7"):
        bench = SimpleNamespace(store=store, numeric={"scikit_learn": version})
        _StoredFeatures(bench).get({"feature": "tfidf"}, build)
    assert len(built) == 2


@pytest.mark.stress
def test_the_original_is_asked_again_behind_other_worked_examples(tmp_path):
    """Its answers behind the earlier ones stood for it, and it had "flipped" against itself."""
    data, rows = tmp_path / "set", random.Random(1)
    data.mkdir()

    def lines(n, name, answer=None):
        return "".join(
            json.dumps(
                {
                    "id": f"{name}{i}",
                    "question": f"Which of these {rows.choice('abcdef')} {i}?",
                    "choices": [f"{rows.choice('klmnop')}{j}" for j in range(4)],
                    "answer": rows.randrange(4) if answer is None else answer,
                }
            )
            + "\n"
            for i in range(n)
        )

    settings = ("arc_task=four_choices", "arc_form=letters", "n_questions=40", "shots=4")
    settings += ("maths_new_tokens=4", "evaluation_tokens=512", "seq_len=64", "pool_documents=64")
    command = [sys.executable, "-m", "pytest", "benchmarks/test_quantizers.py"]
    command += ["-ktiny_llama_1m and seed42 and fp16", "-pno:cacheprovider"]
    command += [f"--local=four_choices={data}", f"--reports-dir={tmp_path / 'r'}"]
    command += [f"--set=quantizers.{setting}" for setting in (*settings, "n_calibration_samples=4")]
    (data / "test.jsonl").write_text(lines(40, "test"))
    digests = set()
    for answer in (0, 3):
        (data / "train.jsonl").write_text(lines(8, "train", answer))
        done = forked.run(command, ROOT)
        assert done.returncode == 0, done.stdout
        (path,) = (tmp_path / "r/quantizers/raw_runs").glob("*.json")
        record = json.loads(path.read_text())
        assert record["flipped"] == 0
        digests.add(record["question_sets"]["arc"]["examples_digest"])
    assert len(digests) == 2
    kept = tmp_path / "r/store/artefacts"
    assert len(os.listdir(kept)) >= 2


def test_what_a_conftest_registers_is_part_of_its_cells(monkeypatch):
    """A quantizer registered with other settings was served the earlier ones' records."""

    def given(method):
        cell = next(c for c in study("quantizers").cells() if c.model == "tiny_llama_1m")
        options = SimpleNamespace(sources=Sources(), checkpoint={})
        cell = replace(cell, axes={**cell.axes, "method": method})
        return inputs.of_cell(study("quantizers"), cell, options)

    def known(name, entry, registry):
        monkeypatch.setitem(registry, name, entry)
        monkeypatch.setitem(registry.added, name, entry)
        return given(name).get("registered")

    assert "registered" not in given("gptq_w4")
    for bits in (2, 3):
        found = known("coarse", Quantizer("my.coarse", {"bits": bits}), QUANTIZERS)
        assert found["quantizer coarse"]["settings"] == {"bits": bits}
    assert known("longest", "my.longest:select", SAMPLERS) == {
        "sampler longest": "my.longest:select"
    }
    here = {"PYTHONPATH": "/home/somebody", "FAST": "1"}
    known("parrot", EngineEntry("my.parrot", (), "", environment=here), ENGINES)
    found = known("parrots", Variant("parrot", "none", "none", "Repeats"), VARIANTS)
    assert found["engine parrot"]["environment"] == {"FAST": "1"}
    assert found["variant parrots"]["engine"] == "parrot"
    assert here["PYTHONPATH"] == "/home/somebody"


def test_downstream_tasks_are_known_by_the_library_that_asks_them():
    selection = study("calibration_selection")
    for asked, packages in ((False, ()), (True, ("lm_eval",))):
        cell = next(selection.cells(settings={"downstream_tasks": asked}))
        assert selection.packages(cell) == packages


def test_a_training_is_known_by_its_held_out_problems_too(tmp_path):
    training = study("latent_training")
    cell = next(
        c for c in training.cells() if (c.model, c["steps"]) == ("llama3_2_1b", "equations")
    )
    options = SimpleNamespace(sources=Sources(local={"gsm8k_aug": tmp_path}), checkpoint={})

    def known(split, answer):
        row = {"question": "How many?", "steps": ["<<1+1=2>>"], "answer": answer}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
        return inputs._task_digests(training, cell, options)

    known("train", "2")
    found = [known("validation", "2"), known("validation", "3"), known("train", "4")]
    assert len({json.dumps(digests) for digests in found}) == 3
    assert set(found[0]) == {"gsm8k_aug", "gsm8k_aug validation"}
