"""Ours beside other libraries in one run on one GPU: quantizing a layer, answering a question.

    python benchmarks/speed/peers_cuda.py --gguf SmolLM2-135M-Instruct.gguf --vllm-python PYTHON \\
        --local arc_challenge=data/arc_challenge gsm8k=data/gsm8k
    python benchmarks/speed/peers_cuda.py --small      # a smoke run, on a CPU too

Every row is a process of its own: what a library sets or breaks stays there, and one that is not
installed, fails or hangs is named while the rest runs.

Quantizing: one model of true shapes with random weights, random tokens, equal settings, W4. Each
quantizes a layer to warm up, then 1 layer and 1 + ``--layers`` layers; the difference is the price
of a layer, whole models are extrapolated. A speed counts only for a right result, so the output
error on new tokens, ||f_q(x) - f(x)||^2 / ||f(x)||^2 of the logits, stands beside it.

Answering: the same strings to all. ARC-Challenge by the options' log-likelihoods, and greedy
answers to GSM8K after worked examples, each from strings to choices or texts, after a warm-up on
other questions. lm-eval's classes are called as its tasks call them. ``as ours`` counts the choices
and the whole texts that are equal to ours.

The limit is what cannot be left out: for GPTQ the bare calls of ``engine_cuda``; for SignRound the
products of all forwards and backwards; for HQQ reading weights and writing codes once; for answers
the products, what several texts begin with read once; for GSM8K also reading weights, keys and
values once a step. Rates of products and copies are measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peers_answering as answering
import peers_quantizing as quantizing
from peers_quantizing import BATCH, Asked, Start

Found = dict[tuple[str, str], dict[str, Any]]

# --- the rows


@dataclass(frozen=True)
class Peer:
    """One process: whose it is, its fast path in words where it does not say which it took, and
    the distribution that it needs."""

    question: str
    who: str
    way: str
    run: Callable[[Asked], dict[str, Any]]
    package: str = ""

    @property
    def name(self) -> str:
        """The row as ``--only`` names it."""
        return f"{self.question}/{self.who}"


def layers(question: str, who: str, way: str, start: Start, package: str = "") -> Peer:
    """Return the row of a library that quantizes."""
    return Peer(question, who, way, lambda asked: quantizing.measured(start, asked), package)


PEERS = (
    Peer("limits", "limit", "rates and bare calls", quantizing.limits),
    layers("GPTQ", "ours", "gptq_w4", quantizing.ours("gptq_w4")),
    layers("GPTQ", "llm-compressor", "", quantizing.llm_compressor, "llmcompressor"),
    layers("GPTQ", "gptqmodel", "not offloaded", quantizing.gptqmodel, "gptqmodel"),
    layers("SignRound", "ours", "signround_w4", quantizing.ours("signround_w4")),
    layers("SignRound", "auto-round", "", quantizing.auto_round, "auto-round"),
    layers("HQQ", "ours", "hqq_w4", quantizing.ours("hqq_w4")),
    layers("HQQ", "hqq", "its default solver", quantizing.hqq, "hqq"),
    Peer("answers", "ours", "", answering.our_answers),
    Peer("answers", "lm-eval hf", "batches of 256", answering.lm_eval_hf, "lm_eval"),
    Peer("answers", "lm-eval vllm", "CUDA graphs", answering.lm_eval_vllm, "vllm"),
)


def outcome(peer: Peer, asked: Asked, python: str, folder: Path) -> dict[str, Any]:
    """Return what a row's process found, or why it found nothing."""
    told, out, log = (folder / name for name in ("asked.json", "found.json", "log"))
    told.write_text(json.dumps(asked))
    out.unlink(missing_ok=True)
    command = [python, __file__, "--row", peer.name, "--asked", str(told), "--found", str(out)]
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    why = "failed"
    # Into a file: a pipe would wait for processes that a library leaves behind.
    with log.open("w") as stream:
        try:
            where = {"cwd": folder, "env": settings, "stdout": stream, "stderr": stream}
            subprocess.run(command, check=False, timeout=asked["timeout"], **where)
        except subprocess.TimeoutExpired:
            why = f"not done in {asked['timeout']} s"
    if out.exists():
        return json.loads(out.read_text())
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    print(f"--- {peer.name} {why}\n" + "\n".join(said[-15:]), file=sys.stderr, flush=True)
    return {"why": f"{why}: {said[-1].strip() if said else 'it said nothing'}"[:160]}


def row(name: str, asked: Asked) -> dict[str, Any]:
    """Run one row in this process."""
    (peer,) = [one for one in PEERS if one.name == name]
    try:
        found = peer.run(asked)
    except ModuleNotFoundError as error:
        needs = f"pip install {peer.package}" if peer.package else "pip install benchsuite"
        return {"why": f"missing: there is no {error.name} here; {needs}"}
    return {"version": version(peer.package) if peer.package else "", **found}


def questions(told: argparse.Namespace) -> dict[str, Any]:
    """Return the folder of the model that answers, and the strings that all are asked."""
    from benchsuite.catalog import Sources
    from benchsuite.corpora import load_task
    from benchsuite.embedded import models
    from benchsuite.evaluation import arc, forms, maths
    from benchsuite.models.gguf.folder import model_folder

    if told.gguf:
        folder, tasks = model_folder(told.gguf), ("arc_challenge", "gsm8k")
    else:
        folder, tasks = models.path("tiny_llama_1m"), ("four_choices", "word_problems")
    sources = Sources(local=dict(pair.split("=", 1) for pair in told.local))
    choices, problems = (load_task(t, "test", sources).questions for t in tasks)
    worked = load_task(tasks[1], "train", sources).questions[: told.examples]
    pairs = [
        (forms.asked(item, form="likelihood"), forms.scored_texts(item, "likelihood"))
        for item in arc.with_four_options(choices)
    ]
    texts = [forms.asked(item, examples=worked) for item in problems]
    n, m, warm = min(told.choices, len(pairs) - told.warm), told.problems, told.warm
    return {
        "folder": str(folder),
        "stop": list(maths.STOP),
        "items": {"ARC": pairs[:n], "GSM8K": texts[:m]},
        "warm": {"ARC": pairs[n : n + warm], "GSM8K": texts[m : m + warm]},
    }


# --- the tables


def quantizing_table(found: Found, limit: dict[str, Any]) -> None:
    """Print a line for each library and question."""
    print("\n| W4 | who | s a layer | times ours' | 1 layer s | whole s | GiB | output error |")
    print("|---|---|---|---|---|---|---|---|")
    for (question, who), got in found.items():
        if "inner" in got:
            own = found.get((question, "ours"), {}).get("inner")
            times = f"{got['inner'] / own:.2f}" if own else ""
            figures = f"{got['inner']:.3f} | {times} | {got['first']:.2f} | {got['whole']:.1f}"
            print(f"| {question} | {who} | {figures} | {got['peak']:.1f} | {got['error']:.4f} |")
        elif question in ("GPTQ", "SignRound", "HQQ"):
            print(f"| {question} | {who} | {got['why']} | | | | | |")
        if who == "ours" and question in limit:
            print(f"| {question} | limit | {limit[question]:.3f} | | | | | |")


def answering_table(found: Found, asked: Asked) -> None:
    """Print a line for each engine and question."""
    print("\n| asked | who | items/s | times ours' | s | as ours |\n|---|---|---|---|---|---|")
    own = found.get(("answers", "ours"), {})
    for question, items in asked.get("items", {}).items():
        n = len(items)
        for (kind, who), got in found.items():
            if kind != "answers":
                continue
            if question not in got:
                print(f"| {question} | {who} | {got['why']} | | | |")
                continue
            seconds, said = got[question]["seconds"], got[question]["said"]
            if question in own:
                same = sum(a == b for a, b in zip(said, own[question]["said"], strict=True))
                beside = f"{seconds / own[question]['seconds']:.2f} | {seconds:.2f} | {same} of {n}"
            else:
                beside = f" | {seconds:.2f} | "
            print(f"| {question} | {who} | {n / seconds:.1f} | {beside} |")
        if own.get(question, {}).get("limit"):
            least = own[question]["limit"]
            tokens = f"{own[question]['tokens']} tokens said or scored"
            print(f"| {question} | limit | {n / least:.0f} | | {least:.2f} | {tokens} |")


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    parser.add_argument("--gguf", type=Path, help="the model that answers; without it, none does")
    parser.add_argument("--local", nargs="+", default=[], metavar="TASK=PATH")
    parser.add_argument("--vllm-python", default=sys.executable, help="it has vLLM and lm-eval")
    parser.add_argument("--only", nargs="+", help="rows by name, as GPTQ/ours")
    parser.add_argument("--layers", type=int, default=2, help="layers timed beyond the first")
    parser.add_argument("--steps", type=int, default=200, help="of SignRound")
    parser.add_argument("--choices", type=int, default=1100)
    parser.add_argument("--problems", type=int, default=512)
    parser.add_argument("--timeout", type=int, default=180, help="seconds that a row may take")
    parser.add_argument("--out", type=Path, help="keep the figures here as JSON")
    for name in ("--row", "--asked", "--found"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    told = parser.parse_args()
    names = [peer.name for peer in PEERS]
    for name in set(told.only or ()) - set(names):
        parser.error(f"no row {name!r}: there are {', '.join(map(repr, names))}")
    for pair in told.local:
        if "=" not in pair:
            parser.error(f"--local {pair}: write it as TASK=PATH")
    if told.gguf and not told.gguf.is_file():
        parser.error(f"--gguf {told.gguf}: there is no such file")
    told.examples, told.warm, told.new = (1, 2, 16) if told.small else (5, 32, 256)
    if told.small:
        told.choices, told.problems, told.layers, told.steps = 6, 4, 1, 3
    return told


def asked_of(told: argparse.Namespace, device: str) -> Asked:
    """Return what every row is asked, as JSON has it."""
    from benchsuite import catalog

    name = "tiny_llama_1m" if told.small else "llama3_2_1b_instruct"
    asked: Asked = {
        "device": device,
        "small": told.small,
        "model": name,
        "whole": catalog.model(name).shape["num_hidden_layers"],
        "layers": told.layers,
        "steps": told.steps,
        "samples": BATCH if told.small else 128,
        "seq_len": 64 if told.small else 2048,
        "dtype": "float16" if device == "cuda" else "float32",
        "batch": 256,
        "new": told.new,
        "timeout": told.timeout,
    }
    return asked | (questions(told) if told.small or told.gguf else {})


def measured(asked: Asked, told: argparse.Namespace) -> Found:
    """Return what every row's process found, one after the other, and say how it went."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        asked["scratch"] = folder
        for peer in PEERS:
            unasked = peer.question == "answers" and "items" not in asked
            if unasked or (told.only and peer.name not in told.only):
                continue
            python = told.vllm_python if peer.package == "vllm" else sys.executable
            began = time.perf_counter()
            got = found[peer.question, peer.who] = outcome(peer, asked, python, Path(folder))
            if peer.question == "limits":
                asked |= {key: got[key] for key in ("product", "copy") if key in got}
            what = f"{peer.package} {got['version']}, " if got.get("version") else ""
            how = got.get("why") or f"{time.perf_counter() - began:.0f} s in all"
            how += f"; no output error: {got['unknown']}" if got.get("unknown") else ""
            told_so = f"{peer.name}: {what}{got.get('path') or peer.way}; {how}"
            print(f"{told_so}{in_short(got)}", flush=True)
            keep(found, asked, told.out)
    return found


def in_short(got: dict[str, Any]) -> str:
    """Return a row's figures as the end of a line: a time limit may cut the tables off."""
    if "inner" in got:
        return f"; {got['inner']:.3f} s a layer"
    answered = {name: value for name, value in got.items() if isinstance(value, dict)}
    return "".join(f"; {name} {value['seconds']:.2f} s" for name, value in answered.items())


def keep(found: Found, asked: Asked, out: Path | None) -> None:
    """Write what was found so far."""
    import machine

    if out:
        rows = {"/".join(key): value for key, value in found.items()}
        limits = rows.pop("limits/limit", {})
        facts = {"facts": machine.facts(asked["device"]), "limits": limits, "rows": rows}
        out.write_text(json.dumps(facts, indent=1) + "\n")


def main() -> int:
    """Measure every row and print the tables; 1 where a row of ours found nothing."""
    told = parsed()
    if told.row:
        found = row(told.row, json.loads(Path(told.asked).read_text()))
        Path(told.found).write_text(json.dumps(found))
        return 0
    import machine
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not told.small:
        sys.exit("no GPU: only --small runs here")
    asked = asked_of(told, device)
    found = measured(asked, told)
    limit = found.pop(("limits", "limit"), {})
    quantizing_table(found, limit)
    answering_table(found, asked)
    shape = f"{asked['samples']} x {asked['seq_len']} tokens, {told.steps} steps of SignRound"
    answers = f"{told.gguf or 'its weights'} answers in {asked['dtype']}"
    print(f"\n{asked['model']}'s shapes, {shape}; {answers}; {machine.line(device)}")
    return int(any("why" in got for (_, who), got in found.items() if who == "ours"))


if __name__ == "__main__":
    sys.exit(main())
