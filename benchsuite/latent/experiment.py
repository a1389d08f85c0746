"""One training from problems to a finished checkpoint, the same under pytest and on its own."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.corpora import load_task
from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.latent import checkpoint, training
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Example, Format
from benchsuite.latent.fitting import refuse_long_rows
from benchsuite.latent.memory import in_evaluation
from benchsuite.latent.methods.registry import method
from benchsuite.latent.network import Reasoner
from benchsuite.latent.tracking import tracker
from benchsuite.models.progress import Progress

N_HELD_OUT = 200


def problems(task: str, split: str, limit: int = 0, sources: Sources = Sources()) -> Any:
    """Return a task's problems, the first ``limit`` or all.

    Of an embedded task more can be asked for than its split holds: the split is the beginning of
    an endless stream, which goes on. A task of other items is a usage error.
    """
    if catalog.task(task).schema != "problem":
        known = ", ".join(n for n, entry in catalog.TASKS.items() if entry.schema == "problem")
        raise UsageError(f"the task {task} has no word problems", fix=f"use one of {known}")
    found = load_task(task, split, sources).questions
    own = catalog.task(task).embedded and sources.folder(task) is None
    if own and limit > len(found):
        from benchsuite.embedded import tasks

        return tuple(islice(tasks.stream(task, split), limit))
    return found[: limit or None]


def worked_problems(config: Config, sources: Sources = Sources()) -> Any:
    """Return the training problems that are shown before each question, mostly none."""
    n = config.data.worked_examples
    return problems(config.data.task, "train", n, sources) if n else ()


def train_into(
    folder: Path,
    net: Reasoner,
    form: Format,
    config: Config,
    *,
    method_name: str,
    seed: int,
    examples: Sequence[Example],
    held_out: Sequence[Problem],
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    accelerator: Any = None,
) -> dict[str, Any]:
    """Train and write checkpoint and ``training.json``; return what that file says.

    The held-out loss is measured before and after. With several processes only the first writes.
    Raises ``UsageError`` for a row that exceeds the model's context.
    """
    chosen, asked = method(method_name), form.encode(held_out)
    refuse_long_rows(net, form, [*examples, *asked])
    with in_evaluation(config):
        before = training.held_out_loss(net, chosen, config, form, asked)
    main = accelerator is None or accelerator.is_main_process
    with tracker(config, method_name, seed, on=main) as track:
        run = training.train(
            net,
            chosen,
            config,
            form,
            examples,
            seed=seed,
            checkpoints=checkpoints,
            progress=progress,
            track=track,
            accelerator=accelerator,
        )
    with in_evaluation(config):
        after = training.held_out_loss(net, chosen, config, form, asked)
    summary = {
        "held_out_loss_untrained": before,
        "held_out_loss": after,
        "loss_parts": run.losses[-1],
        "n_steps": len(run.losses),
        "training_seconds": run.seconds,
        "losses": run.losses,
    }
    if main:
        card = {"method": method_name, "seed": seed, "config": config.as_dict()}
        checkpoint.save(folder, net, card)
        (folder / "training.json").write_text(json.dumps(summary))
    return summary
