"""``benchsuite train``: train and evaluate one latent-reasoning method outside pytest.

The same training as a cell's, for machines without the harness and for several GPUs:
``accelerate launch -m benchsuite train --config llama1b_aug --method kava --out DIR``.
Nothing is written to the store; ``--out`` holds the checkpoint, ``training.json`` and, for each
task of ``--evaluate``, ``results_<task>.json``. While a training is under way its state is there
too, which the same command takes up.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError
from benchsuite.harness.typed import named_paths
from benchsuite.latent.config import Config, load_config
from benchsuite.latent.methods.registry import METHODS, config_of, method
from benchsuite.records.fingerprint import digest

# The rest of that room imports torch, and waits until the words have been read.
if TYPE_CHECKING:
    from benchsuite.latent.decoding import Scores
    from benchsuite.latent.examples import Format


def train(arguments: Sequence[str]) -> int:
    """Train a latent-reasoning method outside pytest, then evaluate it.

    An interrupt ends it with status 130 and says where the same command goes on.
    """
    chosen = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(chosen, _config(chosen))
    except KeyboardInterrupt:
        kept = sorted(chosen.out.glob("unfinished/*/step-*"))
        where = f"after step {int(kept[-1].name[5:])}" if kept else "at its beginning"
        print(f"benchsuite train: interrupted. The same command goes on {where}", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> Parser:
    parser = Parser(train)
    add = parser.add_argument
    add("--config", required=True, help="a file, or a shipped name: llama1b_aug")
    add("--method", required=True, metavar="METHOD", help=", ".join(_trained()))
    add("--model", help="another catalogued model than the configuration's")
    add("--seed", type=int, default=42, help="of what is drawn in training (42)")
    add("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    repeated: dict[str, Any] = {"action": "append", "default": []}
    add("--set", **repeated, metavar="SECTION.KEY=VALUE", help="another value; repeatable")
    add("--evaluate", nargs="*", default=[], metavar="TASK", help="tasks to answer afterwards")
    add("--local", **repeated, metavar="NAME=PATH", help="a model or data set from a folder")
    add("--start-from", type=Path, metavar="DIR", help="a checkpoint, for start_from methods")
    add("--device", choices=("cpu", "cuda"), help="default: cuda where it is")
    return parser


def _trained() -> list[str]:
    return [name for name, entry in METHODS.items() if entry.trained]


def _config(chosen: argparse.Namespace) -> Config:
    config = config_of(chosen.method, load_config(chosen.config))
    if not METHODS.find(chosen.method).trained:
        raise UsageError(
            f"{chosen.method} is not trained: it is the model as it is, shown worked examples",
            fix=f"measure it by pytest benchmarks -k 'latent_reasoning and {chosen.method}', or "
            f"train one of {', '.join(_trained())}",
        )
    for text in chosen.set:
        name, equals, value = text.partition("=")
        section, dot, key = name.partition(".")
        if not equals or not dot:
            raise UsageError(f"--set {text!r} cannot be read", fix="write SECTION.KEY=VALUE")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {text!r} cannot be read", fix=f"quote {value!r}") from None
        config = config.changed({section: {key: read}}, f" of --set {text}")
    return config


def run(chosen: argparse.Namespace, config: Config) -> None:
    """Train one method on the devices that this process was launched with, and evaluate it."""
    from benchsuite.corpora import task_digest
    from benchsuite.latent import checkpoint, experiment
    from benchsuite.latent.examples import Format
    from benchsuite.latent.fitting import refuse_long_questions
    from benchsuite.latent.network import build
    from benchsuite.models.loading import load

    device, accelerator = _device(chosen)
    sources = Sources(local=named_paths("--local", chosen.local, Path.cwd()))
    # Read before the training: hours later is late to hear that one cannot be.
    asked = {
        task: experiment.problems(task, catalog.task(task).split, sources=sources)
        for task in chosen.evaluate
    }
    worked = experiment.worked_problems(config, sources) if asked else ()
    loaded = load(catalog.model(chosen.model or config.model), sources, device=device)
    net, form = build(loaded.model, config, seed=chosen.seed), Format.of(loaded.tokenizer, config)
    for questions in asked.values():
        refuse_long_questions(net, form, config, questions, worked)
    if chosen.start_from:
        checkpoint.restore(chosen.start_from, net, model_only=True)
    elif config.training.start_from:
        raise UsageError(
            f"{chosen.method} starts from a checkpoint of {config.training.start_from}",
            fix="name its folder with --start-from, or --set training.start_from=''",
        )
    data = config.data
    problems = experiment.problems(data.task, "train", data.max_examples, sources)
    chosen.out.mkdir(parents=True, exist_ok=True)
    read = [loaded.digest, task_digest(data.task, "train", sources)]
    unfinished = chosen.out / "unfinished" / _identity(chosen, config, read)

    def tell(stage: str, done: int, total: int) -> None:
        print(f"{chosen.method} seed {chosen.seed}: {done}/{total} {stage}", flush=True)

    experiment.train_into(
        chosen.out,
        net,
        form,
        config,
        method_name=chosen.method,
        seed=chosen.seed,
        examples=form.training_set(problems, data),
        held_out=experiment.problems(data.task, "validation", experiment.N_HELD_OUT, sources),
        checkpoints=unfinished,
        progress=tell,
        accelerator=accelerator,
    )
    if accelerator is None or accelerator.is_main_process:
        shutil.rmtree(unfinished.parent, ignore_errors=True)
        _evaluate(chosen, config, net, form, asked, worked)


def _device(chosen: argparse.Namespace) -> tuple[str, Any]:
    """Return the device of this process, and what shares the work where it is one of several."""
    import torch

    device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if int(os.environ.get("WORLD_SIZE", 1)) <= 1:
        return device, None
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # A method need not use every new parameter: nothing reads <bot> in a chain of thought.
    kwargs = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    accelerator = Accelerator(cpu=device == "cpu", kwargs_handlers=kwargs)
    return str(accelerator.device), accelerator


def _identity(chosen: argparse.Namespace, config: Config, read: Sequence[str]) -> str:
    """Return what tells this training from others that might share its folder.

    ``read`` are digests of what was read: files that were mended since begin another training.
    """
    from benchsuite.models import folder_digest

    begun = chosen.start_from and folder_digest(chosen.start_from)
    other = chosen.model, begun, *read
    return digest([chosen.method, chosen.seed, config.as_dict(), *other])[:16]


def _evaluate(
    chosen: argparse.Namespace,
    config: Config,
    net: Any,
    form: "Format",
    asked: Mapping[str, Any],
    worked: Any,
) -> None:
    from benchsuite.latent import decoding

    for task, problems in asked.items():
        scores = decoding.evaluate(
            net, method(chosen.method), config, form, problems, worked=worked
        )
        _report(chosen, task, scores)


def _report(chosen: argparse.Namespace, task: str, scores: "Scores") -> None:
    found = {"task": task, "method": chosen.method, "seed": chosen.seed, **scores.as_dict()}
    found["correct"] = scores.correct.tolist()
    (chosen.out / f"results_{task}.json").write_text(json.dumps(found))
    print(
        f"{chosen.method} seed {chosen.seed}: {task} {scores.accuracy:.1f} %, "
        f"{scores.forward_passes:.1f} forward passes",
        flush=True,
    )
