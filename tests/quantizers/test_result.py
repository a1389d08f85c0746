"""What every own method returns, and the account behind it."""

import pytest
import torch

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import apply
from benchsuite.quantizers.linear import model_digest, quantized_linears, stored_bytes
from benchsuite.quantizers.registry import OWN, QUANTIZERS
from benchsuite.quantizers.result import Account

# One name for each method; that of W4A4 is left out, whose layers are wrapped after the digest, and
# that of the cache, which has no layers.
APART = ("W4A4", "KV8", "KV4")
ONE_EACH = {entry.module: name for name, entry in OWN.items() if entry.ranking not in APART}
WITHOUT_ERRORS = ("rtn", "hqq", "smoothquant", "fp8", "mxfp4_w", "signround", "wanda", "gguf")


@pytest.mark.parametrize("name", ONE_EACH.values())
def test_the_result_is_that_of_the_model_that_is_left(name, make_model, tokens):
    model = make_model()
    before = stored_bytes(model)
    architecture = architecture_of(model)
    names = [path for path, _ in architecture.named_linears(model)]
    names += [architecture.head] if name.startswith("gguf") else []
    batch = tokens if QUANTIZERS[name].calibrated else None
    options = {"group_size": 32, "iterations": 5, "steps": 5}
    result = apply(name, model, batch, seed=1, progress=None, **options)
    assert result.weights_sha256 == model_digest(model)
    assert (result.size_before_bytes, result.size_after_bytes) == (before, stored_bytes(model))
    assert len(quantized_linears(model)) == len(names)
    # QuaRot's linears are inside the modules that transform their inputs.
    assert [layer.name.removesuffix(".linear") for layer in result.layers] == names
    assert all((layer.error is None) == name.startswith(WITHOUT_ERRORS) for layer in result.layers)
    assert all(seconds >= 0 for seconds in result.stage_seconds.values())


def test_an_account_reads_its_numbers_when_it_is_closed(make_model):
    account = Account(make_model())
    lost, had = torch.tensor(2.0), torch.tensor(8.0)
    with account.timed("together"):
        account.add("a", group="together", share=0.75, norms=(lost, had), damp=0.1, retries=1)
    account.add("b", group="together", share=0.25, details={"kept": torch.tensor(0.5)})
    account.add("c", norms=(lost, torch.tensor(0.0)))
    lost += 2
    first, second, third = account.close({"learn": 3.0}).layers
    assert (first.error, first.relative_error, first.damp, first.retries) == (4.0, 0.5, 0.1, 1)
    assert first.seconds == pytest.approx(3 * second.seconds)
    assert (second.error, second.relative_error, second.details) == (None, None, {"kept": 0.5})
    # A layer that never saw anything but zeros has nothing to be relative to.
    assert third.relative_error == pytest.approx(4e30)
    assert third.seconds == 0


def test_a_method_without_stages_has_its_layers_time(make_model):
    account = Account(make_model())
    for name in ("a", "b"):
        with account.timed(name):
            sum(range(1000))
        account.add(name)
    result = account.close()
    assert result.stage_seconds["method"] == pytest.approx(sum(x.seconds for x in result.layers))
    assert result.stage_seconds["method"] > 0
