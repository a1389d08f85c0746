"""Train the embedded models from nothing: ``python -m benchsuite.embedded.train``.

Text and tasks, half and half, packed to the full context; AdamW with one cosine cycle, bf16
autocast on a GPU. Every model writes its weights as bf16 safetensors, the tokenizer, and a card
that states what was measured.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchsuite import catalog
from benchsuite.embedded import baselines, evaluate, mixture, models, tasks, text, tokenizer

# The linear layers that write into the residual stream: dropout acts on their outputs.
_WRITERS = ("o_proj", "out_proj", "down_proj", "fc2", "embed_tokens")


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of one training run."""

    steps: int = 3800
    batch: int = 128  # rows of 512 tokens a step
    text_share: float = 0.4
    lr: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.0
    warmup: int = 200
    task_rows: int = 128_000
    seed: int = 20


SMALL = Recipe()
LARGE = Recipe(dropout=0.05, lr=2e-3)
OPT = Recipe(dropout=0.05, lr=3e-3)


def recipe(name: str) -> Recipe:
    """Return a model's recipe: the larger models need dropout not to learn the text by heart."""
    if name.startswith("tiny_opt"):
        return OPT
    return LARGE if name.endswith("4m") else SMALL


def train(
    name: str,
    data: mixture.Mixture,
    how: Recipe,
    *,
    device: str,
    report: Callable[[str], None] = print,
) -> tuple[torch.nn.Module, dict[str, float]]:
    """Return the trained float32 model and its last mean losses; seeded by ``how.seed``."""
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(how.seed)
        model = build(name).to(device)
        _add_dropout(model, how.dropout)
        return model, _fit(model, data, how, device, report)


def build(name: str) -> torch.nn.Module:
    """Return a catalogued tiny model with freshly initialised float32 weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    entry = catalog.model(name)
    shape = dict(entry.shape)
    if entry.model_type == "opt":
        shape["ffn_dim"] = shape.pop("intermediate_size")
        shape |= {"word_embed_proj_dim": shape["hidden_size"], "dropout": 0.0}
    if entry.model_type == "mistral":
        shape["sliding_window"] = None
    config = AutoConfig.for_model(
        entry.model_type, **shape, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)


def _add_dropout(model: torch.nn.Module, p: float) -> None:
    def drop(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        return F.dropout(output, p, module.training)

    for path, module in model.named_modules():
        if p and path.rsplit(".", 1)[-1] in _WRITERS:
            module.register_forward_hook(drop)


def _fit(
    model: Any,
    data: mixture.Mixture,
    how: Recipe,
    device: str,
    report: Callable[[str], None],
) -> dict[str, float]:
    batches = _Batches(data, how, device)
    optimizer = _optimizer(model, how, fused=device.startswith("cuda"))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, how.lr, how.steps, pct_start=how.warmup / how.steps, cycle_momentum=False
    )
    run = torch.compile(model) if device.startswith("cuda") else model
    model.train()
    recent: list[torch.Tensor] = []
    started = time.monotonic()
    for step in range(how.steps):
        ids, weights = batches.next()
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            logits = run(input_ids=ids[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view_as(weights)
        (losses * weights).sum().div(weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        recent = [*recent[-49:], batches.means(losses.detach(), weights)]
        if step % 250 == 0 or step == how.steps - 1:
            text_loss, task_loss = torch.stack(recent).mean(0).tolist()
            took = time.monotonic() - started
            report(f"step {step} text {text_loss:.3f} tasks {task_loss:.3f} {took:.0f} s")
    model.eval()
    return {"text": text_loss, "task_completions": task_loss}


def _optimizer(model: torch.nn.Module, how: Recipe, fused: bool) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": how.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=how.lr, betas=(0.9, 0.95), fused=fused)


class _Batches:
    """Seeded batches [batch, 513]: text windows at random offsets, then shuffled task rows."""

    def __init__(self, data: mixture.Mixture, how: Recipe, device: str) -> None:
        self.text = torch.from_numpy(data.text.astype(np.int32)).to(device)
        self.rows = torch.from_numpy(data.rows.astype(np.int32)).to(device)
        self.weights = torch.from_numpy(data.weights).to(device)
        self.n_text = round(how.batch * how.text_share)
        self.n_rows = how.batch - self.n_text
        self.generator = torch.Generator().manual_seed(how.seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.window = torch.arange(tokenizer.CONTEXT + 1, device=device)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids [batch, 513] int64 and the loss weights [batch, 512] of ids[:, 1:]."""
        last = len(self.text) - len(self.window)
        starts = torch.randint(last, (self.n_text, 1), generator=self.generator)
        texts = self.text[starts.to(self.text.device) + self.window]
        if len(self.order) < self.n_rows:
            self.order = torch.randperm(len(self.rows), generator=self.generator)
        chosen, self.order = self.order[: self.n_rows], self.order[self.n_rows :]
        chosen = chosen.to(self.rows.device)
        ones = torch.ones(len(texts), tokenizer.CONTEXT, device=texts.device)
        weights = torch.cat([ones, self.weights[chosen][:, 1:].float()])
        return torch.cat([texts, self.rows[chosen]]).long(), weights

    def means(self, losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the text and of the tasks' completions, [2]."""
        n = self.n_text
        completions = weights[n:] >= 1
        task = (losses[n:] * completions).sum() / completions.sum()
        return torch.stack([losses[:n].mean(), task])


def save(name: str, model: Any, out: Path, tokenizer_folder: Path) -> Path:
    """Write a model's folder: bf16 safetensors, configuration and tokenizer; return it."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written as a private file
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder / file.name)
    return folder


def measure(folder: Path, *, device: str, n_items: int | None = None) -> dict[str, Any]:
    """Return a saved model's test perplexity and task accuracies, in float32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    )
    model = model.to(device).eval()
    words = tokenizer.load(folder)
    found: dict[str, Any] = {}
    for split in ("validation", "test"):
        nll = evaluate.token_nll(model, mixture.text_tokens(split, folder))
        found[f"{split}_perplexity"] = float(np.exp(nll.mean(dtype=np.float64)))
    accuracies: dict[str, float] = {}
    for task in tasks.NAMES:
        items = tasks.items(task, "test")[:n_items]
        accuracies[task] = evaluate.accuracy(model, words, items, batch_size=250)
        if task in ("closed_book", "passages"):
            shown = tasks.items(task, "validation")[:5]
            accuracies[f"{task}_5_shot"] = evaluate.accuracy(
                model, words, items, examples=shown, batch_size=250
            )
        if task == "four_choices":
            for form in ("full", "text"):
                accuracies[f"{task}_{form}"] = evaluate.accuracy(model, words, items, form=form)
    return found | {"accuracy": accuracies}


def reference(folder: Path = tokenizer.FOLDER) -> dict[str, Any]:
    """Return what the models are compared with: the 5-gram's perplexity, trivial accuracies."""
    model = baselines.KneserNey(mixture.text_tokens("train", folder), vocabulary=2048)
    ids = mixture.text_tokens("test", folder)
    logp = np.full(len(ids), np.nan)
    logp[model.order - 1 :] = model.log_probabilities(ids)
    same = evaluate.chunked(logp)[:, 1:]  # the tokens that the models are scored on
    trivial = {
        task: baselines.trivial(tasks.items(task, "train"), tasks.items(task, "test"))
        for task in tasks.NAMES
    }
    return {"kneser_ney_5_perplexity": float(np.exp(-np.nanmean(same))), "trivial": trivial}


def card(name: str, folder: Path, how: Recipe, **measured: Any) -> dict[str, Any]:
    """Return a model's card: its data, recipe, measurements, and the digests of its files."""
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "name": name,
        "weights_sha256": _sha256(folder / "model.safetensors"),
        "tokenizer_sha256": _sha256(folder / "tokenizer.json"),
        "files_sha256": {
            file.name: _sha256(file)
            for file in sorted(folder.iterdir())
            if file.name != models.CARD
        },
        "text_sha256": {split: text.digest(split) for split in text.SPLITS},
        "tasks_sha256": {
            task: {split: tasks.digest(task, split) for split in tasks.SPLITS}
            for task in tasks.NAMES
        },
        "recipe": asdict(how),
        "task_shares": mixture.SHARES,
        **measured,
        "hardware": f"one {gpu}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_one(
    name: str, how: Recipe, prepared: Path, out: Path, device: str, n_items: int | None
) -> None:
    """Train, save, measure and write the card of one model."""
    torch.set_num_threads(2)
    started = time.monotonic()
    data = mixture.Mixture.load(prepared / "mixture.npz")

    def report(line: str) -> None:
        print(f"{name}: {line}", flush=True)

    model, losses = train(name, data, how, device=device, report=report)
    seconds = round(time.monotonic() - started, 1)
    folder = save(name, model, out, prepared / "tokenizer")
    measured = measure(folder, device=device, n_items=n_items)
    compared = json.loads((prepared / "reference.json").read_text())
    content = card(
        name, folder, how, train_seconds=seconds, losses=losses, **measured, reference=compared
    )
    (folder / models.CARD).write_text(json.dumps(content, indent=1) + "\n")
    report(json.dumps(measured))


def main(arguments: list[str] | None = None) -> None:
    """Prepare the data once, then train the models in processes that share the device."""
    parser = argparse.ArgumentParser(prog="python -m benchsuite.embedded.train")
    parser.add_argument("--model", action="append", choices=models.NAMES, help="default: all")
    parser.add_argument("--out", type=Path, default=models.ROOT)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokenizer", action="store_true", help="learn the tokenizer anew, too")
    parser.add_argument("--together", type=int, default=4, help="models trained at the same time")
    parser.add_argument("--items", type=int, help="measure on so many items of each task")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    names = chosen.model or list(models.NAMES)
    changes = {key: json.loads(value) for key, value in (s.split("=", 1) for s in chosen.set)}
    if chosen.prepared:
        for name in names:
            how = replace(recipe(name), **changes)
            train_one(name, how, chosen.prepared, chosen.out, chosen.device, chosen.items)
        return
    prepared = chosen.out / ".prepared"
    rows = max(replace(recipe(name), **changes).task_rows for name in names)
    prepare(prepared, rows, new_tokenizer=chosen.tokenizer)
    failed = _train_all(names, chosen, prepared)
    shutil.rmtree(prepared)
    if failed:
        raise SystemExit(f"training failed for {', '.join(failed)}")


def prepare(folder: Path, rows: int, *, new_tokenizer: bool) -> None:
    """Write the tokenizer, the mixture and the reference values that all the models share."""
    folder.mkdir(parents=True, exist_ok=True)
    if new_tokenizer or not (tokenizer.FOLDER / "tokenizer.json").is_file():
        tokenizer.train()
    shutil.copytree(tokenizer.FOLDER, folder / "tokenizer", dirs_exist_ok=True)
    mixture.build(rows, processes=os.cpu_count() or 1).save(folder / "mixture.npz")
    (folder / "reference.json").write_text(json.dumps(reference()))
    print((folder / "reference.json").read_text(), flush=True)


def _train_all(names: list[str], chosen: argparse.Namespace, prepared: Path) -> list[str]:
    """Run one process a model, a few at a time; return the models whose process failed."""
    waiting = list(names)
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = []
    while waiting or running:
        while waiting and len(running) < chosen.together:
            name = waiting.pop(0)
            command = [sys.executable, "-m", "benchsuite.embedded.train", "--model", name]
            command += ["--out", str(chosen.out), "--device", chosen.device]
            command += ["--items", str(chosen.items)] if chosen.items else []
            command += ["--prepared", str(prepared), *(f"--set={x}" for x in chosen.set)]
            running[name] = subprocess.Popen(command)
        time.sleep(0.2)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            if running.pop(name).returncode:
                failed.append(name)
    return failed


if __name__ == "__main__":
    main()
