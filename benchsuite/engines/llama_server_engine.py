"""The engine ``llama_server``: llama.cpp's llama-server as a process, asked over HTTP.

The command line and ``/completion`` are those of llama.cpp's ``tools/server/README.md``; tried with
build 10434. Prompts are token ids, the prompt cache is off, each prompt of a batch has a slot.

An end token is shut out (``ignore_eos`` is a bias of minus infinity), where other engines would
serve it and go on: the one departure from what they are asked. Log-probs are those before it.
"""

from pathlib import Path
from typing import Any

from benchsuite.engines.http_server import HOST, HttpServer

MODEL = "model.gguf"
_ALL_LAYERS = "999"


class Engine:
    """A llama-server with one model."""

    def __init__(self) -> None:
        self._server: HttpServer | None = None

    def load(
        self,
        *,
        program: str,
        checkpoint_folder: str,
        batch: int,
        sample_tokens: int,
        device: str = "cpu",
        threads: int = 1,
        temperature: float = 0.0,
        seed: int = 42,
        deterministic: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Start the server over ``model.gguf`` with room for ``batch`` samples."""
        if deterministic:
            raise RuntimeError("llama-server has no deterministic mode to switch on")
        if self._server is not None:
            self._server.close()
        words = [program, "--model", str(Path(checkpoint_folder) / MODEL), "--host", HOST]
        words += ["--threads", str(threads), "--threads-batch", str(threads)]
        words += ["--parallel", str(batch), "--ctx-size", str(batch * sample_tokens)]
        words += ["--device", "none"] if device == "cpu" else ["--gpu-layers", _ALL_LAYERS]
        self._server = HttpServer(lambda port: [*words, "--port", str(port)])
        self._sampling = {"samplers": ["temperature"], "temperature": temperature, "seed": seed}
        told = self._server.get("/props")
        return {
            "build": told.get("build_info"),
            "model_ftype": told.get("model_ftype"),
            "threads": threads,
        }

    def generate(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Hand one batch to the server's slots and wait for all of it."""
        assert self._server is not None
        body = {
            **self._sampling,
            "prompt": prompts,
            "n_predict": max_tokens,
            "n_probs": 1,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        found = self._server.post("/completion", body)
        found = sorted(found, key=lambda one: one["index"]) if isinstance(found, list) else [found]
        steps = [one["completion_probabilities"] for one in found]
        return {
            "tokens": [[step["id"] for step in row] for row in steps],
            "logprobs": [[step["logprob"] for step in row] for row in steps],
        }

    def kernels(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Say that nothing is seen: another process computes."""
        raise RuntimeError("llama-server computes in a process of its own, which is not profiled")
