"""One of the processes of a small training, for torchrun."""

import sys

import torch

from benchsuite.embedded import tasks, tokenizer
from benchsuite.latent import training
from benchsuite.latent.config import load_config
from benchsuite.latent.examples import Format
from benchsuite.latent.methods.registry import config_of, method
from tests.latent.conftest import network


def train(accelerator, accumulation):
    """Train six steps of two micro-batches of three problems, in float64 and without dropout."""
    how = {
        "max_steps": 6,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": accumulation,
    }
    config = load_config("tiny").changed({"training": how, "latent": {"n_latents": 5, "passes": 2}})
    form = Format(tokenizer.load(tokenizer.FOLDER), "####")
    examples = form.encode(tasks.items("word_problems", "train")[:20])
    net = network()
    run = training.train(
        net,
        method("kava"),
        config_of("kava", config),
        form,
        examples,
        seed=5,
        accelerator=accelerator,
    )
    return run.losses, {n: p.detach() for n, p in net.named_parameters()}


if __name__ == "__main__":
    from accelerate import Accelerator, DistributedDataParallelKwargs

    kwargs = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    accelerator = Accelerator(cpu=True, kwargs_handlers=kwargs)
    found = train(accelerator, 1)
    if accelerator.is_main_process:
        torch.save((accelerator.num_processes, *found), sys.argv[1])
    accelerator.end_training()
