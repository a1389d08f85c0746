"""Do latents answer as well as written steps, in fewer forward passes?

The studies are declared in ``benchsuite/studies/latent_reasoning/``; this is their method.
"""

import json

import pytest

from benchsuite import latent


@pytest.mark.study("latent_training")
def test_latent_training(cell, reasoning, record):
    """Train, and say whether the loss fell on problems held out."""
    checkpoint = train(reasoning, record)
    assert checkpoint is not None
    summary = json.loads((checkpoint / "training.json").read_text())
    record.items(loss=[sum(parts.values()) for parts in summary.pop("losses")])
    record.clock(training_seconds=summary.pop("training_seconds"))
    record.update(**summary, configuration=reasoning.config.as_dict())


@pytest.mark.study("latent_reasoning")
def test_latent_evaluation(cell, reasoning, record, progress):
    """Take the training's checkpoint and answer; the untrained network answers for comparison."""
    method, config, form = reasoning.method, reasoning.config, reasoning.form
    problems = reasoning.asked()
    checkpoint = train(reasoning, record)
    with record.stage("evaluation"):
        net = reasoning.network(checkpoint)
        shown = reasoning.worked()
        scores = latent.evaluate(
            net, method, config, form, problems, worked=shown, progress=progress
        )
        record.update(**scores.as_dict())
        if cell["untrained"] == cell["asked"]:
            first = latent.evaluate(
                reasoning.network(), method, config, form, problems, worked=shown
            )
            record.update(**scores.above(first))
    with record.stage("latents"):
        words = latent.latent_words(net, method, config, form, problems, worked=shown)
    record.items(**scores.rows(problems), **latent.word_rows(words))


def train(reasoning, record):
    """Return the cell's checkpoint, None of a method without one, charged with its training.

    The cells of all sets share one training: each has its seconds, whoever spent them.
    """
    with record.stage("training"):
        checkpoint = reasoning.trained()
    told = checkpoint and checkpoint / "training.json"
    if told and told.is_file():
        seconds = json.loads(told.read_text())["training_seconds"]
        record.time("training", seconds)
        record.time("training_spent", record.timings["training"])
    return checkpoint
