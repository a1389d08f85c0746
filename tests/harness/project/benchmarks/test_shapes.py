"""One cell of each study's shape, with arithmetic small enough to check by hand."""

import hashlib
import json
import math
import random
import subprocess
import sys

import pytest

WEIGHTS = {"toy_a": [0.11, 0.52, 0.93, 0.34], "toy_b": [0.75, 0.26, 0.47, 0.08]}


@pytest.mark.study("select_and_quantize")
def test_select_and_quantize(cell, record):
    with record.stage("selection"):
        draw = random.Random(cell.seed)
        n = cell["n_samples"]
        chosen = range(n) if cell.method == "first" else [draw.randrange(99) for _ in range(n)]
    with record.stage("quant"):
        step = 0.05 + sum(chosen) / len(chosen) / 1000
        quantized = [round(w / step) * step for w in WEIGHTS[cell.model]]
    errors = [(w - q) ** 2 for w, q in zip(WEIGHTS[cell.model], quantized, strict=True)]
    digest = hashlib.sha256(json.dumps(quantized).encode()).hexdigest()
    record.update(perplexity=math.exp(sum(errors)), weights_sha256=digest)
    record.items(error=errors)


@pytest.mark.study("generate_and_score")
def test_generate_and_score(cell, record, artefact):
    def generate(folder):
        answers = [w * k for w in WEIGHTS[cell.model] for k in range(cell["n_questions"] // 4)]
        (folder / "answers.json").write_text(json.dumps(answers))

    with record.stage("generation"):
        made = artefact({"generations": cell.model, "n": cell["n_questions"]}, generate)
        answers = json.loads((made.path / "answers.json").read_text())
    scores = [math.log1p(a) if cell.method == "nll" else a * a for a in answers]
    record.update(auroc=sum(scores) / len(scores))
    record.items(score=scores, seed=[cell.seed] * len(scores))


ENGINE = """
import json, sys
for line in sys.stdin:
    ask = json.loads(line)
    print(json.dumps([w * ask["scale"] for w in ask["weights"]]), flush=True)
"""


@pytest.mark.study("engine_process")
def test_engine_process(cell, record):
    command = [sys.executable, "-c", ENGINE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with record.stage("generation"), subprocess.Popen(command, **pipes) as engine:
        answers = []
        for repetition in range(cell["repetitions"]):
            scale = 1 + repetition * (cell.method == "noisy")
            ask = {"weights": WEIGHTS[cell.model], "scale": scale}
            engine.stdin.write(json.dumps(ask) + "\n")
            engine.stdin.flush()
            answers.append(json.loads(engine.stdout.readline()))
        engine.stdin.close()
    record.update(is_deterministic=all(a == answers[0] for a in answers))


def adapter(cell, artefact):
    """Train the cell's adapter once; the evaluation may come first and then trains it."""

    def train(folder):
        weight = 0.0
        for _ in range(cell["steps"]):
            weight += 0.1 * (cell.seed - weight)
        (folder / "adapter.json").write_text(json.dumps(weight))

    key = {"adapter": cell.model, "method": cell.method, "seed": cell.seed, "steps": cell["steps"]}
    return artefact(key, train)


@pytest.mark.study("training")
def test_training(cell, record, artefact):
    with record.stage("training"):
        made = adapter(cell, artefact)
    record.update(loss=cell.seed - json.loads((made.path / "adapter.json").read_text()))


@pytest.mark.study("trained_evaluation")
def test_trained_evaluation(cell, record, artefact):
    weight = json.loads((adapter(cell, artefact).path / "adapter.json").read_text())
    with record.stage("evaluation"):
        right = [abs(weight - cell.seed) < 0.2 * w for w in WEIGHTS[cell.model]]
    record.update(accuracy=sum(right) / len(right))
    record.items(right=right)


@pytest.mark.study("two_models")
def test_two_models(cell, record):
    other = (
        cell.model if cell.method == "same" else {"toy_a": "toy_b", "toy_b": "toy_a"}[cell.model]
    )
    with record.stage("evaluation"):
        pairs = zip(WEIGHTS[cell.model], WEIGHTS[other], strict=True)
        divergence = sum(abs(a - b) for a, b in pairs)
    record.update(divergence=divergence, reference=other)
    assert (divergence == 0) == (cell.method == "same")
