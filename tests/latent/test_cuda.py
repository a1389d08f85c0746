"""On a GPU: a resumed training gives an unbroken one's bits, packed attention the padded one's.

And a training by CUDA graphs that of its kernels one by one.
"""

import pytest
import torch

from benchsuite.embedded import tasks
from benchsuite.latent import attention, training
from benchsuite.latent.attention import Layout
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import config_of, method
from benchsuite.latent.transfer import Route, taken
from tests.latent.conftest import network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def fresh(lora_r, bf16):
    net = network(lora_r=lora_r, lora_dropout=0.3).float()
    if bf16 and lora_r:
        net.lm.bfloat16()
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return net.cuda()


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("lora_r", [0, 4])
def test_six_steps_are_three_and_three_more_bit_for_bit(
    lora_r, bf16, graphs, form, examples, config, tmp_path, deterministic
):
    how = {"max_steps": 6, "per_device_train_batch_size": 4, "save_steps": 3, "bf16": bf16}
    how["cuda_graphs"] = graphs
    config = config_of("kava", config).changed({"training": how})

    def stop(stage, done, total):
        if done == 4:  # after the state of step 3 was kept
            raise KeyboardInterrupt

    def train(**options):
        net = fresh(lora_r, bf16)
        run = training.train(net, method("kava"), config, form, examples, seed=7, **options)
        return net, run

    whole, run = train()
    with pytest.raises(KeyboardInterrupt):
        train(checkpoints=tmp_path, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000003"]
    resumed, again = train(checkpoints=tmp_path)
    assert again.resumed_at == 3
    assert again.losses == run.losses
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("heads", [(4, 4), (8, 2)])
def test_attention_of_packed_rows_is_the_padded_one(heads):
    n_heads, kv_heads = heads
    generator = torch.Generator().manual_seed(0)
    before = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    layout = Layout.of(before, mask, torch.device("cuda"))

    def drawn(*shape):
        values = torch.randn(*shape, 64, generator=generator)
        return values.cuda().bfloat16().requires_grad_()

    query = drawn(int(mask.sum()), n_heads)
    keys, values = drawn(3, 9, kv_heads), drawn(3, 9, kv_heads)
    found = []
    for attend in (attention._attend_packed, attention._attend_padded):
        out = attend(query, keys, values, layout)
        gradients = torch.autograd.grad(out.float().square().sum(), (query, keys, values))
        here = layout.mask.bool().cuda()
        found.append([out, gradients[0], *(g[here] for g in gradients[1:])])
        assert not any(g[~here].any() for g in gradients[1:])  # written, too
    for packed, padded in zip(*found, strict=True):
        assert torch.allclose(packed.float(), padded.float(), atol=3e-2, rtol=3e-2)
        assert padded.float().abs().max() > 0.1


@pytest.mark.parametrize("name", ["kava", "codi", "icot"])
@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_graph_gives_the_gradients_of_its_kernels_one_by_one(lora_r, name, form, config):
    """On batches that it was not captured with, dropout and accumulation included."""
    examples = form.encode(tasks.items("word_problems", "train")[:64])
    how = {"per_device_train_batch_size": 32, "bf16": True, "cuda_graphs": True}
    config, net = config_of(name, config).changed({"training": how}), fresh(lora_r, True).train()
    graphed = training.Steps(net, method(name), config, form, examples)
    config = config.changed({"training": {"cuda_graphs": False}})
    plain = training.Steps(net, method(name), config, form, examples)
    batches = [graphed.batch(examples[n : n + 4]) for n in range(0, 64, 4)]

    def moment():
        return Moment(0.5, torch.Generator().manual_seed(3))

    def gradients(accumulate):
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        torch.manual_seed(11)
        parts = [accumulate(batch, moment()) for batch in batches[-2:]]
        trained = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
        return parts, trained

    for batch in batches * 2:  # every shape is captured
        graphed.accumulate(batch, moment())
    with taken(Route(multiple=4 * 32)):
        wanted, expected = gradients(plain.accumulate)
    found, captured = gradients(graphed.accumulate)
    assert len(graphed.accumulate._graphs) < len(batches)
    for a, b in zip(found, wanted, strict=True):
        assert {n: float(v) for n, v in a.items()} == pytest.approx(
            {n: float(v) for n, v in b.items()}, rel=1e-3
        )
    assert captured.keys() == expected.keys()
    for name, gradient in expected.items():
        far = (captured[name] - gradient).norm() / gradient.norm().clamp(min=1e-12)
        assert far < 1e-2, name
