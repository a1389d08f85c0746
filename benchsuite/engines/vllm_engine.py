"""The engine ``vllm``: vLLM 0.26 in this very process, so that torch's flags and profiler reach it.

Runs in vLLM's own environment (Python 3.12, torch 2.11) and imports nothing of benchsuite beyond
this room. Prefix caching is off, or later repetitions would reuse what the first has computed;
kernels run eagerly unless CUDA graphs are asked for. Prompts are token ids: no tokenizer is loaded.

In 0.26 the names ``awq``, ``awq_marlin`` and ``gptq``, ``gptq_marlin`` choose a class each, not a
kernel. ``linear_backend`` forces one of the mixed-precision kernels; the plain AWQ kernels are
taken only where Marlin's support check answers no, which ``plain_awq`` makes it do.
"""

import logging
import time
from typing import Any

import torch
import vllm
from vllm import LLM, SamplingParams

from benchsuite.engines.profiling import profiled

# One sample's decoding steps replayed from a graph, without torch.compile: nothing is generated
# and built at start-up, and what is left of a step is the kernels.
_GRAPHS = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1]}


class _UsingLines(logging.Handler):
    """Keeps the lines in which vLLM names the kernels and backends that it has chosen."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Using ") and message not in self.lines:
            self.lines.append(message)


class Engine:
    """A vLLM model."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._sampling: dict[str, Any] = {}
        self._using = _UsingLines()
        logging.getLogger("vllm").addHandler(self._using)

    def load(
        self,
        *,
        checkpoint_folder: str,
        quantization: str | None = None,
        linear_backend: str = "auto",
        plain_awq: bool = False,
        dtype: str = "float16",
        max_model_len: int = 8192,
        tensor_parallel: int = 1,
        gpu_memory_utilization: float = 0.9,
        kv_cache_gib: float = 0.0,
        kv_cache_dtype: str = "auto",
        temperature: float = 0.0,
        seed: int = 42,
        deterministic: bool = False,
        graphs: bool = False,
        trusted: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Load a checkpoint folder; ``kv_cache_gib`` 0 takes what the utilization leaves.

        ``graphs`` replays the decoding of one sample from a CUDA graph, as a server does. A
        checkpoint's own code runs where it is ``trusted``.
        """
        self._sampling = {"temperature": temperature, "seed": seed if temperature else None}
        if deterministic:
            # vLLM runs operators that have no deterministic form: those are told, not refused.
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if plain_awq:
            from vllm.model_executor.layers.quantization import auto_awq

            auto_awq.check_marlin_supported = lambda *_, **__: False
        settings: dict[str, Any] = dict(
            model=checkpoint_folder,
            quantization=quantization,
            linear_backend=linear_backend,
            dtype=dtype,
            max_model_len=max_model_len,
            tensor_parallel_size=tensor_parallel,
            gpu_memory_utilization=gpu_memory_utilization,
            kv_cache_memory_bytes=int(kv_cache_gib * 2**30) or None,
            kv_cache_dtype=kv_cache_dtype,
            seed=seed,
            trust_remote_code=trusted,
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
            enforce_eager=not graphs,
            **({"compilation_config": _GRAPHS} if graphs else {}),
        )
        try:
            self._llm = LLM(**settings)
        except RuntimeError as error:
            full = isinstance(error, torch.OutOfMemoryError)
            if full or (kv_cache_dtype, dtype) != ("fp8", "float16"):
                raise
            hint = "on Hopper vLLM's attention reads an FP8 cache in bfloat16 alone, not in float16"
            raise RuntimeError(f"{error} ({hint}: there set dtype to bfloat16)") from error
        return self._facts()

    def _facts(self) -> dict[str, Any]:
        """Return what a record says of the loaded engine."""
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(),
            "using": self._using.lines,
            "batch_invariant": bool(vllm.envs.VLLM_BATCH_INVARIANT),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        }

    def generate(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Hand one batch to vLLM's scheduler and wait for all of it."""
        sampling = SamplingParams(
            **self._sampling, max_tokens=max_tokens, ignore_eos=True, logprobs=0, detokenize=False
        )
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        completions = [
            out.outputs[0] for out in self._llm.generate(asked, sampling, use_tqdm=False)
        ]
        tokens = [list(completion.token_ids) for completion in completions]
        logprobs = [
            [step[token].logprob for step, token in zip(completion.logprobs, ids, strict=True)]
            for completion, ids in zip(completions, tokens, strict=True)
        ]
        return {"tokens": tokens, "logprobs": logprobs}

    def score(self, prompts: list[list[int]]) -> dict[str, Any]:
        """Read the prompts and say how probable each token was after those before it."""
        sampling = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False
        )
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        logprobs, best = [], []
        for out in self._llm.generate(asked, sampling, use_tqdm=False):
            after_first = list(zip(out.prompt_token_ids, out.prompt_logprobs, strict=True))[1:]
            logprobs.append([found[token].logprob for token, found in after_first])
            best.append([max(found, key=lambda t: found[t].logprob) for _, found in after_first])
        return {"logprobs": logprobs, "best": best}

    def latency(
        self, prompt: list[int], max_tokens: int, repeats: int, warmup: int
    ) -> dict[str, Any]:
        """Time one sample from the call to its last token, seconds [repeats], and its memory.

        ``peak_memory_bytes`` is what PyTorch held at most in a pass of its own: weights, the whole
        reserved key-value cache, CUDA graphs and what generating adds.
        """
        sampling = SamplingParams(
            temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False
        )
        asked, seconds = [{"prompt_token_ids": prompt}], []
        for _ in range(warmup + repeats):
            begin = time.perf_counter()
            self._llm.generate(asked, sampling, use_tqdm=False)
            seconds.append(time.perf_counter() - begin)
        torch.cuda.reset_peak_memory_stats()
        self._llm.generate(asked, sampling, use_tqdm=False)
        peak = torch.cuda.max_memory_allocated()
        return {"seconds": seconds[warmup:], "peak_memory_bytes": peak}

    def kernels(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Generate under torch's profiler; with the engine's own words on what it uses."""
        found = profiled(lambda: self.generate(prompts, max_tokens), cuda=True)
        return found | {"using": self._using.lines}
