"""Downstream accuracy through lm-eval: public tasks on hub models, local ones on embedded models.

lm-eval is an optional part (``pip install 'benchsuite[downstream]'``). It runs quietly here, and
leaves the random generators, the tokenizer and the model as they were.
"""

import contextlib
import copy
import io
import logging
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.evaluation.local_tasks import LocalTask

# The source document's tasks and their folders in lm-eval.
_BUILT_IN = {
    "arc_easy": "arc",
    "hellaswag": "hellaswag",
    "mmlu": "mmlu/default",
    "winogrande": "winogrande",
}
DOCUMENT_TASKS = tuple(_BUILT_IN)
"""The tasks of ``--downstream``, in the order of the source document's tables."""


@dataclass(frozen=True)
class Downstream:
    """Accuracies of several tasks, and the answers behind them.

    ``accuracy``: task -> % right, and ``average``, the mean over tasks; in the source document's
    structure. ``n``, ``stderr`` (%), ``correct`` (bool [n], in the order of ``ids``) by task.
    ``normalised`` is the accuracy (%) with log-likelihoods divided by the options' lengths, where
    a task defines it (hellaswag is often quoted so).
    """

    accuracy: dict[str, float]
    n: dict[str, int]
    stderr: dict[str, float]
    correct: dict[str, np.ndarray]
    ids: dict[str, tuple[str, ...]]
    normalised: dict[str, float]


def evaluate_hub_tasks(model: nn.Module, tokenizer: Any) -> Downstream:
    """Return the accuracies on lm-eval's own tasks, zero-shot unless the task says otherwise.

    Raises ``CellCannotRun`` where lm-eval or a task's data set is not to be had.
    """
    _require_lm_eval()
    with _undisturbed(model):
        loaded = _load_hub_tasks(DOCUMENT_TASKS)
        samples = {
            task: _run(model, tokenizer, found, batch_size=8) for task, found in loaded.items()
        }
    return _collect(samples)


def prepare_hub_tasks(tasks: Sequence[str] = DOCUMENT_TASKS) -> None:
    """Fetch the tasks' data sets now: raises ``CellCannotRun`` before hours of work, not after."""
    _require_lm_eval()
    with _undisturbed(None):
        _load_hub_tasks(tasks)


def evaluate_local_tasks(
    model: nn.Module, tokenizer: Any, tasks: Sequence[LocalTask]
) -> Downstream:
    """Return the accuracies on local choice tasks, zero-shot; no file, cache or network is used."""
    _require_lm_eval()
    samples = {}
    with _undisturbed(model):
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_defaults=False)
        for task in tasks:
            loaded = manager.load([_configuration(task)])
            samples[task.name] = _run(model, tokenizer, loaded, batch_size=16)
    return _collect(samples)


def _load_hub_tasks(tasks: Sequence[str]) -> dict[str, Any]:
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    # Their folders alone: indexing all of lm-eval's 10,000 tasks takes 15 s.
    root = Path(lm_eval.tasks.__file__).parent
    manager = TaskManager(
        include_path=[str(root / _BUILT_IN[task]) for task in tasks], include_defaults=False
    )
    loaded = {}
    for task in tasks:
        try:
            loaded[task] = manager.load([task])
        except Exception as error:  # data sets' errors have no common class
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CellCannotRun(
                f"the data set of the task {task!r} cannot be loaded: {cause}",
                fix="Run once with a network to fill the hub's cache, or leave --downstream out",
            ) from error
    return loaded


def _configuration(task: LocalTask) -> dict[str, Any]:
    """Return the lm-eval task of local items."""
    if not task.docs:
        raise UsageError(f"the task {task.name!r} has no items", fix="Give it longer sources")

    def dataset(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        rows = [
            {"id": d.id, "query": d.query, "choices": list(d.choices), "answer": d.answer}
            for d in task.docs
        ]
        return {"test": Dataset.from_list(rows)}

    return {
        "task": task.name,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "query",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",  # the choices bring their own
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    }


def _run(model: nn.Module, tokenizer: Any, loaded: Any, batch_size: int) -> list[dict[str, Any]]:
    """Return lm-eval's samples of one task or group, subtask by subtask.

    ``evaluate`` and not ``simple_evaluate``, which seeds the global generators and spawns processes
    to describe the machine.
    """
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    # lm-eval may give the tokenizer a padding token: not to the one that the pool shares.
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
    results = evaluate(lm=lm, task_dict=loaded, bootstrap_iters=0, log_samples=True)
    by_task: Mapping[str, list[dict[str, Any]]] = results["samples"]
    return [
        {**sample, "subtask": name}
        for name in sorted(by_task)
        for sample in sorted(by_task[name], key=lambda sample: sample["doc_id"])
    ]


def _collect(samples: Mapping[str, list[dict[str, Any]]]) -> Downstream:
    result = Downstream({}, {}, {}, {}, {}, {})
    for task, items in samples.items():
        correct = np.array([bool(item["acc"]) for item in items])
        n = len(correct)
        result.accuracy[task] = 100 * float(correct.mean())
        result.n[task] = n
        spread = float(correct.std(ddof=1)) if n > 1 else float("nan")
        result.stderr[task] = 100 * spread / n**0.5
        result.correct[task] = correct
        result.ids[task] = tuple(
            str(item["doc"].get("id") or f"{item['subtask']}-{item['doc_id']}") for item in items
        )
        if all("acc_norm" in item for item in items):
            result.normalised[task] = 100 * float(np.mean([item["acc_norm"] for item in items]))
    if result.accuracy:
        result.accuracy["average"] = float(np.mean(list(result.accuracy.values())))
    return result


def _require_lm_eval() -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise CellCannotRun(
            "downstream tasks need lm-eval, which is not installed",
            fix="Install it with `pip install 'benchsuite[downstream]'`",
        ) from error


@contextlib.contextmanager
def _undisturbed(model: nn.Module | None) -> Iterator[None]:
    """Let lm-eval work without a trace: no output, generators and model as before."""
    python, numpy = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device if model is not None else torch.device("cpu")
    disabled = logging.root.manager.disable
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        contextlib.redirect_stderr(io.StringIO()),  # progress bars
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
        _tied_as_they_are(model),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            random.setstate(python)
            np.random.set_state(numpy)


@contextlib.contextmanager
def _tied_as_they_are(model: nn.Module | None) -> Iterator[None]:
    """Keep lm-eval from tying weights anew: that would undo a quantized head."""
    if model is None:
        yield
        return
    model.__dict__["tie_weights"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del model.__dict__["tie_weights"]
