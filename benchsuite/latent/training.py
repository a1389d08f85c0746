"""Train a method: AdamW over seeded batches, resumable bit for bit, on one device or several.

Nothing random has a state of its own: the order of the examples follows from seed and epoch, and
what a step draws (dropout, iCoT's surplus) from seed and step. So a training that is taken up again
from a checkpoint gives the bits of one that was never interrupted.
"""

import functools
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchsuite.errors import BenchsuiteError
from benchsuite.latent import checkpoint
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch, Example, Format, Widths
from benchsuite.latent.graphs import Graphs, outline
from benchsuite.latent.losses import Parts
from benchsuite.latent.memory import in_training
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.network import Reasoner
from benchsuite.latent.tracking import Track
from benchsuite.models.progress import Progress

logger = logging.getLogger("benchsuite.latent")


@dataclass
class Run:
    """What a training leaves beside its weights: every step's loss parts, and what it took.

    ``seconds`` are those of all its steps: of ``resumed_at`` steps that a state brought,
    ``earlier``, and of this process'.
    """

    losses: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    resumed_at: int = 0
    earlier: float = 0.0


class _Objective(nn.Module):
    """The method's loss as a module's forward, which is what several devices synchronise on."""

    def __init__(self, net: Reasoner, method: Method, config: Config) -> None:
        super().__init__()
        self.net, self._method, self._config = net, method, config

    def forward(self, batch: Batch, moment: Moment) -> Parts:
        return self._method.loss(self.net, batch, self._config, moment)


class Steps:
    """The optimizer steps of a training, one a call.

    A CUDA GPU without an accelerator replays micro-batches as graphs if ``training.cuda_graphs``
    says so; ``examples``, all that will ever come, then give the widths that they share.
    """

    def __init__(
        self,
        net: Reasoner,
        method: Method,
        config: Config,
        form: Format,
        examples: Sequence[Example],
        accelerator: Any = None,
    ) -> None:
        how, device = config.training, net.device
        if how.torch_compile:
            net.decoder.compile_training()
        objective: Any = _Objective(net, method, config).train()
        self.optimizer: Any = _optimizer(net, config)
        if accelerator is not None:
            objective, self.optimizer = accelerator.prepare(objective, self.optimizer)
        self._objective, self._form, self._how = objective, form, how
        self.accumulate: Callable[[Batch, Moment], Parts]
        self.accumulate = functools.partial(_accumulate, objective, config)
        self._widths: Widths | None = None
        self._graphed = how.cuda_graphs and device.type == "cuda" and accelerator is None
        if self._graphed:
            # Rounded up to a few tokens a row, a shuffled set's batches have a handful of shapes.
            rounding = 4 * how.per_device_train_batch_size
            read = _Objective(outline(net), method, config)
            self.accumulate = Graphs(self.accumulate, read, rounding, device)
            self._widths = Widths.of(examples)
        elif how.cuda_graphs:
            logger.warning("training.cuda_graphs has no effect: it is for one CUDA GPU")

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Return a micro-batch as ``accumulate`` takes it."""
        return self._form.batch(examples, self._widths)

    def __call__(self, chosen: Sequence[Sequence[Example]], moment: Moment) -> Parts:
        """Take one step over micro-batches; return the mean loss parts, on the device."""
        parts: Parts = {}
        apart = getattr(self._objective, "no_sync", nullcontext)
        for number, examples in enumerate(chosen):
            last = number == len(chosen) - 1
            with nullcontext() if last else apart():
                found = self.accumulate(self.batch(examples), moment)
            for name, value in found.items():
                parts[name] = parts.get(name, 0.0) + value / len(chosen)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self._how.max_grad_norm)
        rate = self._how.learning_rate * _schedule(moment.progress, self._how.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not self._graphed)  # graphs add to the same tensors
        return parts


def train(
    net: Reasoner,
    method: Method,
    config: Config,
    form: Format,
    examples: Sequence[Example],
    *,
    seed: int,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    track: Track | None = None,
    accelerator: Any = None,
) -> Run:
    """Train ``net`` in place and return the losses.

    With ``checkpoints`` the state is kept there every ``save_steps`` steps, and a state found there
    is taken up. ``accelerator`` (accelerate's) spreads each step over its processes. Raises
    ``BenchsuiteError`` naming the batch setting when memory runs out, or the step of a loss that
    is not finite.
    """
    steps = Steps(net, method, config, form, examples, accelerator)
    rank, world = 0, 1
    if accelerator is not None:
        rank, world = accelerator.process_index, accelerator.num_processes
    total = total_steps(config, len(examples), world)
    run = Run()
    if checkpoints is not None:
        run.losses, run.earlier = checkpoint.resume(checkpoints, net, steps.optimizer)
        run.resumed_at, run.seconds = len(run.losses), run.earlier
    device = net.device
    shown = _Shown(run, total, progress, track) if rank == 0 else None
    began = time.perf_counter()
    pending: list[Parts] = []
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with in_training(config), forked:
        for step in range(run.resumed_at, total):
            torch.manual_seed(_mixed(seed, step, rank))
            moment = Moment(step / total, torch.Generator().manual_seed(_mixed(seed, step, -1)))
            chosen = _micro_batches(examples, config, step, seed, rank, world)
            pending.append(steps(chosen, moment))
            saving = checkpoints is not None and (step + 1) % config.training.save_steps == 0
            if saving or step + 1 == total or len(pending) >= max(1, total // 50):
                _settle(run, pending, accelerator)
                run.seconds = run.earlier + time.perf_counter() - began
                if shown:
                    shown.tell()
            if saving and checkpoints and rank == 0 and step + 1 < total:
                checkpoint.keep(checkpoints, net, steps.optimizer, run.losses, run.seconds)
    net.eval()
    return run


def total_steps(config: Config, n_examples: int, world: int = 1) -> int:
    """Return the number of optimizer steps of a training."""
    how = config.training
    batch = how.per_device_train_batch_size * how.gradient_accumulation_steps * world
    return how.max_steps or math.ceil(how.num_train_epochs * n_examples / batch)


def held_out_loss(
    net: Reasoner, method: Method, config: Config, form: Format, examples: Sequence[Example]
) -> float:
    """Return the method's loss on examples as at the end of training, where stages are done.

    Trainings in stages make their own task harder as they go, so that their training loss need not
    fall; this one is of one task, and comparable before and after.
    """
    device, was_training = net.device, net.training
    moment = Moment(math.nextafter(1.0, 0.0), torch.Generator().manual_seed(0))
    size, total = config.evaluation.batch_size, 0.0
    net.eval()
    with torch.no_grad(), _autocast(device, config):
        for start in range(0, len(examples), size):
            group = examples[start : start + size]
            parts = method.loss(net, form.batch(group), config, moment)
            total += len(group) * float(sum(parts.values(), torch.zeros((), device=device)))
    net.train(was_training)
    return total / len(examples)


def _accumulate(objective: Any, config: Config, batch: Batch, moment: Moment) -> Parts:
    """Add a micro-batch's gradients; return the detached parts of its loss."""
    with _autocast(next(objective.parameters()).device, config):
        parts = objective(batch, moment)
    share = config.training.gradient_accumulation_steps
    (torch.stack(list(parts.values())).sum() / share).backward()
    return {name: value.detach() for name, value in parts.items()}


def _settle(run: Run, pending: list[Parts], accelerator: Any) -> None:
    """Turn the losses that are still on the device into numbers, and look at them.

    They are the whole step's: of several processes, the mean.
    """
    for parts in pending:
        found = torch.stack(list(parts.values()))
        if accelerator is not None:
            found = accelerator.reduce(found, "mean")
        values = dict(zip(parts, found.tolist(), strict=True))
        run.losses.append(values)
        if not all(map(math.isfinite, values.values())):
            raise BenchsuiteError(
                f"the loss of step {len(run.losses)} is not finite: {_in_words(values)}",
                fix="lower training.learning_rate, or training.max_grad_norm",
            )
    pending.clear()


def _schedule(progress: float, warmup: float) -> float:
    """Return the share of the peak rate: linear from zero in the warm-up, then cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _optimizer(net: Reasoner, config: Config) -> torch.optim.AdamW:
    """Return AdamW over what is trained; biases, norms and special tokens do not decay."""
    trained = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    flat = [p for n, p in trained if p.ndim <= 1 or n == "special"]
    matrices = [p for n, p in trained if p.ndim > 1 and n != "special"]
    groups = [
        {"params": matrices, "weight_decay": config.training.weight_decay},
        {"params": flat, "weight_decay": 0.0},
    ]
    fused = net.device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.training.learning_rate, fused=fused)


def _micro_batches(
    examples: Sequence[Example],
    config: Config,
    step: int,
    seed: int,
    rank: int,
    world: int,
) -> list[list[Example]]:
    """Return this process' micro-batches of a step: its share of one seeded endless sequence."""
    size, n = (
        config.training.per_device_train_batch_size,
        config.training.gradient_accumulation_steps,
    )
    batches = []
    for micro in range(n):
        start = ((step * n + micro) * world + rank) * size
        batches.append([examples[i] for i in _order(len(examples), seed, start, size)])
    return batches


def _order(n: int, seed: int, start: int, size: int) -> Iterator[int]:
    """Yield ``size`` indices from place ``start`` of the epochs' permutations, end to end."""
    for place in range(start, start + size):
        yield _permutation(n, seed, place // n)[place % n]


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(_mixed(seed, epoch, -2))
    return tuple(torch.randperm(n, generator=generator).tolist())


def _mixed(*parts: int) -> int:
    """Return a seed that no other parts share."""
    text = json.dumps(list(parts), separators=(",", ":"))
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def _autocast(device: torch.device, config: Config) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.training.bf16)


def _in_words(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in parts.items())


class _Shown:
    """Tells a training's progress: the parts of the loss, the time left."""

    def __init__(
        self, run: Run, total: int, progress: Progress | None, track: Track | None
    ) -> None:
        self._run, self._total, self._progress, self._track = run, total, progress, track
        self._tracked = run.resumed_at

    def tell(self) -> None:
        run, done = self._run, len(self._run.losses)
        parts = run.losses[-1]
        pace = (run.seconds - run.earlier) / max(1, done - run.resumed_at)
        left = pace * (self._total - done)
        text = f"loss {sum(parts.values()):.3f} ({_in_words(parts)}), {left:.0f} s left"
        logger.info("step %d/%d: %s", done, self._total, text)
        if self._progress:
            self._progress(f"training, {text}", done, self._total)
        if self._track:
            for step in range(self._tracked, done):
                losses = run.losses[step]
                self._track({"loss": sum(losses.values()), **losses}, step + 1)
            self._tracked = done
