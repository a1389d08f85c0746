"""The engine ``sglang``: SGLang's server as a process, asked over HTTP.

Runs in SGLang's own environment. The command line is that of SGLang's documentation ("Server
Arguments", "Deterministic Inference"), ``/generate`` that of "Sampling Parameters" and "Native
API". Prompts are token ids: no tokenizer is loaded. The radix cache is off, or later repetitions
would reuse what the first has computed; kernels run without CUDA graphs, as vLLM's do here.

The deterministic mode is ``--enable-deterministic-inference``: batch-invariant operators.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchsuite.engines.http_server import HOST, HttpServer


class Engine:
    """An SGLang server with one model."""

    def __init__(self) -> None:
        self._server: HttpServer | None = None

    def load(
        self, *, temperature: float = 0.0, seed: int = 42, deterministic: bool = False, **rest: Any
    ) -> dict[str, Any]:
        """Start the server; ``rest`` is what ``command`` takes."""
        if self._server is not None:
            self._server.close()
        self._server = HttpServer(
            lambda port: command(port, seed=seed, deterministic=deterministic, **rest)
        )
        self._sampling: dict[str, Any] = {"temperature": temperature}
        if temperature > 0:
            self._sampling["sampling_seed"] = seed
        told = self._server.get("/get_server_info")
        names = ("version", "attention_backend", "sampling_backend", "quantization", "dtype")
        return {name: told.get(name) for name in names} | {"deterministic": deterministic}

    def generate(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Hand one batch to SGLang's scheduler and wait for all of it."""
        assert self._server is not None
        sampling = {**self._sampling, "max_new_tokens": max_tokens, "ignore_eos": True}
        body = {"input_ids": prompts, "sampling_params": sampling, "return_logprob": True}
        found = self._server.post("/generate", body)
        steps = [one["meta_info"]["output_token_logprobs"] for one in found]
        return {
            "tokens": [[step[1] for step in row] for row in steps],
            "logprobs": [[step[0] for step in row] for row in steps],
        }

    def kernels(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Say that nothing is seen: another process computes."""
        raise RuntimeError("SGLang computes in processes of its own, which are not profiled")


def command(
    port: int,
    *,
    checkpoint_folder: str,
    quantization: str | None = None,
    dtype: str = "float16",
    max_model_len: int = 8192,
    tensor_parallel: int = 1,
    gpu_memory_utilization: float = 0.9,
    seed: int = 42,
    deterministic: bool = False,
    trusted: bool = False,
    **_: Any,
) -> Sequence[str]:
    """Return the command that serves a checkpoint folder on a port."""
    words = [sys.executable, "-m", "sglang.launch_server", "--model-path", checkpoint_folder]
    words += ["--host", HOST, "--port", str(port), "--skip-tokenizer-init"]
    words += ["--dtype", dtype, "--context-length", str(max_model_len)]
    words += ["--tp-size", str(tensor_parallel), "--random-seed", str(seed)]
    words += ["--mem-fraction-static", str(gpu_memory_utilization)]
    words += ["--disable-radix-cache", "--disable-cuda-graph"]
    words += ["--quantization", quantization] if quantization else []
    words += ["--trust-remote-code"] if trusted else []
    return [*words, "--enable-deterministic-inference"] if deterministic else words
