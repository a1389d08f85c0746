"""Many small trainings of one study at once on one GPU, each step a captured CUDA graph.

    python benchmarks/speed/latent_order.py --seconds 400
    python benchmarks/speed/latent_order.py --seconds 150 --seeds 42 --validation --every 250 \\
        --run "no_cot" --run "kava latent.n_latents=24"

A step of a network of a few million parameters is some thousands of kernels of a few microseconds:
launched one by one from Python they leave the GPU idle, and processes side by side take turns on
it. Here every training (the same initial weights, order of examples, losses, schedule and
optimizer as in ``benchsuite.latent.training``) is one graph on a stream of its own, and the streams
run side by side. With ``--seconds`` the number of steps is what fits, measured before the first.
"""

import argparse
import datetime
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from latent_graphs import MAX_STEPS_OF_A_PROBLEM, Run, Table, orders

from benchsuite import catalog
from benchsuite.embedded.schema import Problem
from benchsuite.latent import decoding, experiment, training
from benchsuite.latent.config import Config, load_config
from benchsuite.latent.examples import Format
from benchsuite.latent.methods.registry import METHODS, config_of, method
from benchsuite.latent.network import build
from benchsuite.models.loading import load

TASKS = ("word_problems", "word_problems_hard", "word_problems_rephrased")


def fitting(runs: Sequence[Run], seconds: float) -> int:
    """Return how many joint steps fit, from ten at a rate of zero; every state is put back."""
    if runs[0].stream is None:
        return 10**9
    kept = [run._state() for run in runs]
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(10):
        for run in runs:
            with torch.cuda.stream(run.stream):
                run.rate.zero_()
                run.graph.replay()
    torch.cuda.synchronize()
    took = (time.perf_counter() - begin) / 10
    for run, state in zip(runs, kept, strict=True):
        run._put(state)
    torch.cuda.synchronize()
    print(f"{len(runs)} trainings: {1000 * took:.1f} ms for a step of all", flush=True)
    return int(seconds / took)


def by_steps(scores: decoding.Scores, problems: Sequence[Problem]) -> dict[int, float]:
    """Return the accuracy (%) on the problems of each number of steps."""
    n = Counter(len(p.steps) for p in problems)
    right = Counter(len(p.steps) for p, ok in zip(problems, scores.correct, strict=True) if ok)
    return {k: 100 * right[k] / n[k] for k in sorted(n)}


def told(run: Run, scores: decoding.Scores, problems: Sequence[Problem], step: int) -> None:
    """Print and keep one point of a curve."""
    each = by_steps(scores, problems)
    parts = run.losses()[-1]
    run.curve.append(
        {"step": step, "accuracy": scores.accuracy, **{str(k): v for k, v in each.items()}}
    )
    shown = " ".join(f"{n} {v:.3f}" for n, v in parts.items() if n != "step")
    share = " ".join(f"{k}:{v:.1f}" for k, v in each.items())
    print(f"{step:6} {run.name:44} {scores.accuracy:5.1f} %  ({share})  {shown}", flush=True)


def table(runs: Sequence[Run], results: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Print each method's mean and standard deviation over its seeds."""

    def stat(values: list[float]) -> str:
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.mean(values):6.2f} +- {spread:4.2f}"

    names = list(dict.fromkeys(run.name for run in runs))
    steps = range(2, MAX_STEPS_OF_A_PROBLEM + 1)
    heads = ["problems %", "hard %", "rephrased %", *(f"{k} steps %" for k in steps)]
    print(
        f"{'method':30} "
        + " ".join(f"{h:>15}" for h in heads)
        + f" {'passes':>7} {'held-out':>9} n"
    )
    for name in names:
        found = [results[name, run.seed] for run in runs if run.name == name]
        columns = [stat([f[task]["accuracy"] for f in found]) for task in TASKS]
        columns += [stat([f[TASKS[0]]["by_steps"][k] for f in found]) for k in steps]
        passes = statistics.mean(f[TASKS[0]]["forward_passes"] for f in found)
        held = statistics.mean(f["held_out_loss"] for f in found)
        row = " ".join(f"{c:>15}" for c in columns)
        print(f"{name:30} {row} {passes:7.2f} {held:9.3f} {len(found)}", flush=True)


def parsed() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny_long")
    parser.add_argument("--model", default="tiny_llama_4m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--run", action="append", metavar="'METHOD [SECTION.KEY=VALUE ...]'")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seconds", type=float, help="of training; lowers the number of steps")
    parser.add_argument("--every", type=int, default=0, help="steps between points of the curve")
    parser.add_argument("--validation", action="store_true", help="ask the validation split only")
    parser.add_argument(
        "--check", type=int, default=0, metavar="STEPS", help="compare with train()"
    )
    parser.add_argument("--out", type=Path, help="keep everything here as JSON")
    return parser.parse_args()


def configured(name: str, chosen: argparse.Namespace) -> Config:
    """Return the configuration of a run such as ``kava latent.n_latents=24``."""
    first, *changes = name.split()
    config = config_of(first, load_config(chosen.config))
    for text in (*chosen.set, *changes):
        section, _, rest = text.partition(".")
        key, _, value = rest.partition("=")
        config = config.changed({section: {key: yaml.safe_load(value)}})
    return config


def main() -> None:
    """Train all runs side by side, evaluate them, print the table."""
    chosen, begin = parsed(), time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    names = chosen.run or [n for n, entry in METHODS.items() if not entry.like]
    configs = {name: configured(name, chosen) for name in names}
    first = configs[names[0]]
    loaded = load(catalog.model(chosen.model), device=device)
    form = Format.of(loaded.tokenizer, first)
    problems = experiment.problems(first.data.task, "train", first.data.max_examples)
    data = Table(form, form.encode(problems), device)
    held_out = experiment.problems(first.data.task, "validation")
    print(f"{len(problems)} problems ready after {time.perf_counter() - begin:.0f} s", flush=True)
    runs = [
        Run(name, seed, configs[name], loaded.model, data, form)
        for seed in chosen.seeds
        for name in names
    ]
    for run in runs:
        run.capture()
    if chosen.check:
        for run in runs:
            checked(run, loaded.model, problems, chosen.check)
        return
    if device == "cuda":
        peak = torch.cuda.max_memory_reserved() / 2**30
        print(f"captured after {time.perf_counter() - begin:.0f} s, {peak:.0f} GiB", flush=True)
    total = training.total_steps(first, len(problems))
    if chosen.seconds:
        total = min(total, fitting(runs, chosen.seconds))
    batch = first.training.per_device_train_batch_size
    print(f"{total} steps of {batch}", flush=True)
    order = orders(runs, len(problems), total, batch)
    trained = time.perf_counter()
    for step in range(total):
        for run in runs:
            run.advance(step, total, order[run.seed][step])
        if step % 50 == 49 and device == "cuda":
            torch.cuda.synchronize()
        if chosen.every and (step + 1) % chosen.every == 0 and step + 1 < total:
            for run in runs:
                told(run, run.scores(held_out), held_out, step + 1)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"trained in {time.perf_counter() - trained:.0f} s", flush=True)
    results = {}
    for run in runs:
        told(run, run.scores(held_out), held_out, total)
        results[run.name, run.seed] = evaluated(run, [] if chosen.validation else TASKS)
    kept = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
        "model": chosen.model,
        "steps": total,
        "batch": batch,
        "seconds": time.perf_counter() - begin,
        "runs": [
            {
                "name": run.name,
                "seed": run.seed,
                "config": run.config.as_dict(),
                "losses": run.losses(),
                "curve": run.curve,
                "results": results[run.name, run.seed],
            }
            for run in runs
        ],
    }
    if chosen.out:
        chosen.out.write_text(json.dumps(kept))
    if not chosen.validation:
        table(runs, results)
    print(f"{time.perf_counter() - begin:.0f} s in all; {kept['device']}, torch {kept['torch']}")


def checked(run: Run, lm: Any, problems: Sequence[Problem], n: int) -> None:
    """Print a few steps' losses beside those of ``training.train``."""
    how = {"max_steps": n}
    config = run.config.changed({"training": how})
    net, chosen, form = build(lm, config, seed=run.seed), method(run.method), run.form
    eager = training.train(net, chosen, config, form, form.encode(problems), seed=run.seed)
    batch = config.training.per_device_train_batch_size
    order = orders([run], len(problems), n, batch)[run.seed]
    for step in range(n):
        run.advance(step, n, order[step])
    if run.stream is not None:
        torch.cuda.synchronize()
    for mine, theirs in zip(run.losses(), eager.losses, strict=True):
        gap = max(abs(mine[name] - value) for name, value in theirs.items())
        print(f"{run.name} step {mine['step']}: {sum(theirs.values()):.4f}, apart {gap:.1e}")


def evaluated(run: Run, tasks: Sequence[str]) -> dict[str, Any]:
    """Return a trained run's scores on the test sets, and its loss on problems held out."""
    asked = run.form.encode(experiment.problems(run.config.data.task, "validation", 200))
    chosen = method(run.method)
    found: dict[str, Any] = {
        "held_out_loss": training.held_out_loss(run.net, chosen, run.config, run.form, asked)
    }
    for task in tasks:
        problems = experiment.problems(task, "test")
        scores = run.scores(problems)
        found[task] = {
            **scores.as_dict(),
            "by_steps": by_steps(scores, problems),
            "correct": "".join(str(int(c)) for c in scores.correct),
        }
    return found


if __name__ == "__main__":
    main()
