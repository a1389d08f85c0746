"""How far KaVa's losses and gradients with fused blocks are from those of the plain operations.

    python benchmarks/speed/latent_difference.py [--small]

At Llama-3.2-1B's shapes with random weights and without dropout, over three batches of eight rows,
on one CUDA GPU. LoRA's second factors, zero when they are new, are drawn. Beside it stands the same
for packed against padded attention, which differ by what bfloat16 rounds.
"""

import argparse
from unittest import mock

import torch

from benchmarks.speed.latent_cuda import draw
from benchsuite import catalog
from benchsuite.latent import attention, fused
from benchsuite.latent.config import Config, load_config
from benchsuite.latent.examples import Batch, Format
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import config_of, method
from benchsuite.latent.network import Reasoner, build
from benchsuite.models import random_weights

Found = tuple[dict[str, float], torch.Tensor]


def gradients(net: Reasoner, batch: Batch, config: Config) -> Found:
    """Return the parts of a batch's loss, and its gradients as one vector."""
    net.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        moment = Moment(0.5, torch.Generator().manual_seed(0))
        parts = method("kava").loss(net, batch, config, moment)
    torch.stack(list(parts.values())).sum().backward()
    whole = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    return {name: float(value.detach()) for name, value in parts.items()}, whole


def apart(found: Found, expected: Found) -> str:
    """Return the largest relative difference of two losses' parts, and the gradients'."""
    losses = max(abs(found[0][name] / value - 1) for name, value in expected[0].items())
    far = float((found[1] - expected[1]).norm() / expected[1].norm())
    return f"losses {losses:.1e}, gradients {100 * far:.2f} %"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    entry = catalog.model("tiny_llama_1m" if small else "llama3_2_1b")
    changed = {"lora": {"dropout": 0.0, "r": 8 if small else 128}}
    config = config_of("kava", load_config("llama1b_aug")).changed(changed)
    lm = random_weights.build(entry, device="cuda", dtype="bfloat16", seed=0)
    net = build(lm, config, seed=0).train()
    generator = torch.Generator("cuda").manual_seed(0)
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02, generator=generator)
    form = Format(random_weights.rehearsal_tokenizer(entry), config.data.marker)
    examples = draw(24, entry.shape["vocab_size"])
    for first in range(0, 24, 8):
        batch = form.batch(examples[first : first + 8])
        found = gradients(net, batch, config)
        again = gradients(net, batch, config)
        with fused.plain_operations():
            plain = gradients(net, batch, config)
            with mock.patch.object(attention, "_takes_packed", return_value=False):
                padded = gradients(net, batch, config)
        print(f"rows {first} to {first + 7}")
        print(f"  fused again:               {apart(again, found)}")
        print(f"  fused from plain:          {apart(found, plain)}")
        print(f"  plain, packed from padded: {apart(plain, padded)}")
        print(f"  fused from plain, padded:  {apart(found, padded)}", flush=True)


if __name__ == "__main__":
    main()
