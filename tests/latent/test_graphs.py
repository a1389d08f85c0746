"""The steps that the side-by-side trainer captures as graphs: the losses are the methods' own."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchsuite.latent.config import load_config
from benchsuite.latent.methods import coconut, icot
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import METHODS, config_of, method
from tests.latent.conftest import SHAPE


@pytest.fixture(scope="module")
def graphs():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/speed"))
    try:
        import latent_graphs
    finally:
        sys.path.pop(0)
    return latent_graphs


@pytest.fixture(scope="module")
def lm():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**SHAPE, pad_token_id=2))


def at(progress):
    return Moment(progress, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("progress", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", [n for n, entry in METHODS.items() if not entry.like])
def test_a_batch_cut_from_the_table_gives_the_methods_losses(
    name, progress, graphs, lm, form, examples
):
    """Fixed widths and gathered rows change nothing, at any stage of iCoT and Coconut."""
    config = config_of(name, load_config("tiny_long"))
    config = config.changed({"training": {"per_device_train_batch_size": 3}})
    run = graphs.Run(name, 1, config, lm, graphs.Table(form, examples, "cpu"), form)
    chosen = [6, 1, 3]
    run.index.copy_(torch.tensor(chosen))
    run.stage = coconut.stage(config, at(progress))
    run.removed[0] = min(1.0, progress / config.latent.removed_at)
    run.removed[1] = icot.removed(0, config, at(progress))
    batch = form.batch([examples[i] for i in chosen])
    with torch.no_grad():
        mine = run.loss()
        own = method(name).loss(run.net, batch, config, at(progress))
    assert mine.keys() == own.keys()
    for part, value in own.items():
        assert float(mine[part]) == pytest.approx(float(value), abs=1e-5)
