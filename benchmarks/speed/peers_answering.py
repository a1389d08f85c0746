"""What ``peers_cuda.py`` times of answering: our loops and lm-eval's classes on equal strings.

Nothing of benchsuite is imported above: vLLM may lie in an interpreter without it.
"""

import os
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

Asked = dict[str, Any]

VLLM_SETTINGS = {
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
}


def timed(
    arc: Callable[[Any], list[int]], gsm8k: Callable[[Any], list[str]], asked: Asked
) -> dict[str, Any]:
    """Return what was said and the seconds, by question, after a warm-up."""
    found = {}
    for name, say in (("ARC", arc), ("GSM8K", gsm8k)):
        say(asked["warm"][name])
        began = time.perf_counter()
        said = say(asked["items"][name])
        found[name] = {"seconds": time.perf_counter() - began, "said": said}
    return found


def our_answers(asked: Asked) -> dict[str, Any]:
    """Answer with this project's loops; batches as it chooses them."""
    import numpy as np
    from transformers import AutoTokenizer

    from benchsuite.decoding.ways import grows_in_slots
    from benchsuite.evaluation.chat import continued
    from benchsuite.evaluation.generation import generate, log_likelihoods
    from benchsuite.models.loading import load_folder

    folder = asked["folder"]
    kept: dict[str, Any] = {}
    model: Any = load_folder(Path(folder), folder, asked["device"], asked["dtype"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def arc(items: list[Any]) -> list[int]:
        rows = continued(tokenizer, items)
        kept["ARC"] = [(len(first), sum(map(len, options))) for first, options in rows]
        prefixes = [first for first, options in rows for _ in options]
        found = log_likelihoods(model, prefixes, [x for _, options in rows for x in options])
        sums = np.array([values.sum() for values in found]).reshape(len(items), -1)
        return [int(best) for best in sums.argmax(1)]

    def gsm8k(items: list[str]) -> list[str]:
        limits = {"max_new_tokens": asked["new"], "stop": asked["stop"]}
        made = generate(model, tokenizer, items, **limits)
        kept["made"] = made.token_ids
        return list(made.texts)

    found = timed(arc, gsm8k, asked)
    prompts = tokenizer(asked["items"]["GSM8K"], verbose=False)["input_ids"]
    alike = sum(1 for _ in takewhile(lambda at: len(set(at)) == 1, zip(*prompts, strict=False)))
    own = [(len(p) - alike, len(t)) for p, t in zip(prompts, kept["made"], strict=True)]
    for name, lengths, shared in (("ARC", kept["ARC"], 0), ("GSM8K", own, alike)):
        least = least_seconds(model, name, lengths, shared, asked)
        found[name] |= {"tokens": sum(then for _, then in lengths), "limit": least}
    return found | {"path": "slots, CUDA graphs" if grows_in_slots(model) else "the plain loop"}


def least_seconds(
    model: Any, question: str, lengths: list[tuple[int, int]], shared: int, asked: Asked
) -> float | None:
    """Return the limit, None without the machine's rates.

    Of each question its own tokens read, and those said or scored; before it are ``shared`` tokens
    that all begin with. What several texts begin with is read once.
    """
    from benchsuite.evaluation import reading

    if "product" not in asked:
        return None
    blocks = sum(p.numel() for p in model.model.layers.parameters())
    head = model.get_output_embeddings().weight.numel()
    own, then = (sum(one) for one in zip(*lengths, strict=True))
    products = 2 * ((shared + own + then) * blocks + then * head) / asked["product"]
    if question == "ARC":
        return products
    rows = min(asked["batch"], len(lengths))
    step = reading.step_bytes(model, rows, shared + (own + then / 2) / len(lengths))
    return products + then / rows * step / asked["copy"]


def by_lm_eval(lm: Any, asked: Asked) -> dict[str, Any]:
    """Answer with one of lm-eval's classes."""
    from lm_eval.api.instance import Instance

    def requests(kind: str, arguments: list[Any]) -> list[Any]:
        return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]

    def arc(items: list[Any]) -> list[int]:
        pairs = [(context, option) for context, options in items for option in options]
        values = iter(lm.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True))
        rows = [[next(values)[0] for _ in options] for _, options in items]
        return [max(range(len(row)), key=row.__getitem__) for row in rows]

    def gsm8k(items: list[str]) -> list[str]:
        how = {"until": asked["stop"], "max_gen_toks": asked["new"], "do_sample": False}
        asked_for = [(context, dict(how)) for context in items]
        return lm.generate_until(requests("generate_until", asked_for), disable_tqdm=True)

    return timed(arc, gsm8k, asked)


def lm_eval_hf(asked: Asked) -> dict[str, Any]:
    """Answer with transformers by lm-eval, in batches as large as ours."""
    from lm_eval.models.huggingface import HFLM

    where = {"device": asked["device"], "dtype": asked["dtype"], "batch_size": asked["batch"]}
    return by_lm_eval(HFLM(pretrained=asked["folder"], **where), asked)


def lm_eval_vllm(asked: Asked) -> dict[str, Any]:
    """Answer with vLLM by lm-eval: all at once, decoding by CUDA graphs."""
    os.environ |= VLLM_SETTINGS
    from lm_eval.models.vllm_causallms import VLLM

    lm = VLLM(
        pretrained=asked["folder"],
        dtype=asked["dtype"],
        batch_size="auto",
        max_model_len=4096,
        gpu_memory_utilization=0.7,
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    )
    return by_lm_eval(lm, asked)
