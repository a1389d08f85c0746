"""The engine ``openvino``: OpenVINO's own runtime on the CPU, weights in int4 by nncf.

A model of the hub that keeps its key-value cache as state (``openvino_model.xml`` with a
``beam_idx`` input, as optimum-intel exports it) decodes one token a step. Our own conversion has no
cache: each step reads the whole prefix again, which costs time and changes no weight.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from benchsuite.engines.noise import gumbel

MODEL = "openvino_model.xml"


class Engine:
    """A compiled OpenVINO model, decoded greedily."""

    def __init__(self) -> None:
        self._core = openvino.Core()
        self._compiled: Any = None

    def load(
        self,
        *,
        checkpoint_folder: str,
        threads: int = 1,
        deterministic: bool = False,
        temperature: float = 0.0,
        seed: int = 42,
        **_: Any,
    ) -> dict[str, Any]:
        """Compile the model of a folder in float32 arithmetic on ``threads`` threads.

        OpenVINO has no deterministic mode: one stream and pinned threads are its default here.
        """
        if deterministic:
            raise RuntimeError("OpenVINO has no deterministic mode to switch on")
        self._temperature, self._seed = temperature, seed
        config = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            "PERF_COUNT": "YES",
        }
        model = self._core.read_model(Path(checkpoint_folder) / MODEL)
        self._stateful = "beam_idx" in {name for port in model.inputs for name in port.names}
        self._compiled = self._core.compile_model(model, "CPU", config)
        return {
            "openvino": openvino.__version__,
            "device": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            "threads": self._compiled.get_property("INFERENCE_NUM_THREADS"),
        }

    def generate(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Decode one batch of prompts of equal length."""
        tokens, logprobs, _ = self._decode(prompts, max_tokens)
        return {"tokens": tokens.tolist(), "logprobs": logprobs.tolist()}

    def kernels(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Return the runtime's own performance counters of the last decoding step."""
        *_, request = self._decode(prompts, max_tokens)
        found: dict[str, dict[str, Any]] = {}
        for node in request.profiling_info:
            if node.exec_type in ("", "undef") or not node.real_time:
                continue
            name = f"{node.node_type}:{node.exec_type}"
            kernel = found.setdefault(name, {"name": name, "count": 0, "time_us": 0.0})
            kernel["count"] += 1
            kernel["time_us"] += node.real_time.total_seconds() * 1e6
        ordered = sorted(found.values(), key=lambda kernel: -kernel["time_us"])
        return {"profiling_succeeded": bool(ordered), "all_kernels": ordered}

    def prepare(
        self, folder: str, *, source: dict[str, Any], group_size: int, threads: int = 1, **_: Any
    ) -> dict[str, Any]:
        """Convert the original model, compress its weights to int4 and save it in ``folder``."""
        import nncf

        converted = _converted(source, threads)
        compressed = nncf.compress_weights(
            converted,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=group_size,
            ratio=1.0,
        )
        openvino.save_model(compressed, Path(folder) / MODEL, compress_to_fp16=False)
        return {"weights_sha256": _digest(compressed)}

    def _decode(self, prompts: list[list[int]], max_tokens: int) -> tuple[Any, Any, Any]:
        ids = np.array(prompts, np.int64)
        request = self._compiled.create_infer_request()
        tokens, logprobs = [], []
        fresh = ids
        for step in range(max_tokens):
            logits = self._last_logits(request, ids, fresh)
            scores = logits
            if self._temperature > 0:
                noise = gumbel(prompts, step, logits.shape[-1], self._seed)
                scores = logits / self._temperature + noise
            chosen = scores.argmax(-1)
            tokens.append(chosen)
            logprobs.append(_log_softmax(logits)[np.arange(len(ids)), chosen])
            fresh = chosen[:, None]
            ids = np.concatenate([ids, fresh], 1)
        return np.stack(tokens, 1), np.stack(logprobs, 1).astype(np.float64), request

    def _last_logits(self, request: Any, ids: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """Return float32 [batch, vocabulary] after ``ids``, of which ``fresh`` are new."""
        mask = np.ones_like(ids)
        if not self._stateful:
            return request.infer([ids, mask])[0][:, -1].astype(np.float32)
        inputs = {"input_ids": fresh, "attention_mask": mask}
        names = {name for port in self._compiled.inputs for name in port.names}
        if "position_ids" in names:
            first = ids.shape[1] - fresh.shape[1]
            inputs["position_ids"] = np.tile(np.arange(first, ids.shape[1]), (len(ids), 1))
        inputs["beam_idx"] = np.arange(len(ids), dtype=np.int32)
        return request.infer(inputs)[0][:, -1].astype(np.float32)


def _converted(source: dict[str, Any], threads: int) -> Any:
    """Return the original model as an OpenVINO one that maps ids and mask to logits."""
    import torch

    from benchsuite.engines.torch_engine import original

    class Logits(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
            return out.logits

    torch.set_num_threads(threads)
    ids = torch.arange(8)[None]
    network = Logits(original(source, "cpu"))
    return openvino.convert_model(network, example_input=(ids, torch.ones_like(ids)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _digest(model: Any) -> str:
    """Return the sha256 over the constants of a compressed model, in its topological order."""
    import hashlib

    sha = hashlib.sha256()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant":
            sha.update(f"{node.get_element_type()}{list(node.shape)}".encode())
            sha.update(node.get_data().tobytes())
    return sha.hexdigest()
