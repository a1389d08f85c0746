"""What follows the blocks gives the model's own logits, for every way in which families scale them.

Caps, divisors and factors are large enough here to be seen.
"""

import pytest
import torch

from benchsuite.models.architecture import architecture_of
from benchsuite.models.heads import after_blocks, head_of, scaled_head
from tests.quantizers.families import build

SCALED = {
    "gemma2": {"final_logit_softcapping": 0.5},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.25},
}


@pytest.mark.parametrize("family", SCALED)
def test_logits_are_the_models_own(family):
    model = build(family, **SCALED[family])
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        expected = model(ids).logits
        hidden = model.model(ids).last_hidden_state
        found = head_of(model)(hidden)
        plain = model.get_output_embeddings()(hidden)
    assert scaled_head(model) is not None
    assert torch.equal(found, expected)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_a_head_that_scales_nothing_is_the_models_own():
    model = build("smollm3")
    assert scaled_head(model) is None
    assert head_of(model) is model.get_output_embeddings()


def test_what_the_head_reads_is_what_the_last_block_puts_out_behind_the_norm():
    model, ids, states = build("granite"), torch.arange(1, 9)[None], []
    last = architecture_of(model).block_list(model)[-1]
    last.register_forward_hook(lambda _, __, out: states.append(out))
    with torch.no_grad():
        expected = model(ids).logits
        out = states[0][0] if isinstance(states[0], tuple) else states[0]
        assert torch.equal(head_of(model)(after_blocks(model, out)), expected)
