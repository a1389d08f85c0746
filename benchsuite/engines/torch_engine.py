"""The engine ``transformers``: a model under transformers, its linears as they are or packed int4.

Runs in the project's own environment. Kernels of a quantized model: ``dequantize`` (our packed
layer, which rebuilds the weight in every call and multiplies in the model's dtype) and ``int4``
(PyTorch's own int4 kernel: ``_weight_int4pack_mm_for_cpu``, or ``_weight_int4pack_mm`` on CUDA).
"""

import os
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.catalog import ModelEntry, Sources
from benchsuite.decoding.loop import Choice, decode, evaluating, most_probable, padded
from benchsuite.engines import gguf_file
from benchsuite.engines.divergence import divergences
from benchsuite.engines.llama_server_engine import MODEL
from benchsuite.engines.noise import gumbel
from benchsuite.engines.profiling import profiled
from benchsuite.evaluation.forced import teacher_forced
from benchsuite.evaluation.growing import chosen_log_probs
from benchsuite.models import generation_settings
from benchsuite.models.loading import load
from benchsuite.quantizers import awq, checkpoint, gptq, rtn
from benchsuite.quantizers.layers import replace
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears

QUANTIZE: dict[str, Any] = {"gptq": gptq.quantize, "awq": awq.quantize}


class Engine:
    """A causal language model under transformers, decoded with a key-value cache."""

    def __init__(self) -> None:
        self.model: Any = None

    def load(
        self,
        *,
        source: dict[str, Any],
        checkpoint_folder: str | None = None,
        kernel: str = "",
        device: str = "cpu",
        threads: int = 1,
        deterministic: bool = False,
        temperature: float = 0.0,
        seed: int = 42,
        trusted: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Load the checkpoint, or the original model where there is none, and choose the kernel.

        A checkpoint's own code runs where it is ``trusted``, the original's where ``source`` says.
        """
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        self._temperature, self._seed = temperature, seed
        if checkpoint_folder is not None:
            self.model = checkpoint.load(Path(checkpoint_folder), device=device, trusted=trusted)
        else:
            self.model = original(source, device)
        if kernel == "int4":
            self._use_int4(device)
        return self.describe()

    def describe(self) -> dict[str, Any]:
        """Return what runs: versions, dtype, the device's name."""
        first = next(self.model.parameters())
        cuda = first.is_cuda
        return {
            "torch": torch.__version__,
            "dtype": str(first.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(first.device) if cuda else "cpu",
            "threads": torch.get_num_threads(),
            "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        }

    def generate(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Decode one batch; prompts of unequal length are padded on the left."""
        ids, mask = padded(prompts, next(self.model.parameters()).device)
        alike = len({len(prompt) for prompt in prompts}) == 1
        choose: Choice = most_probable
        if self._temperature > 0:
            choose = drawing(prompts, self._temperature, self._seed)
        tokens, logprobs = [], []
        with evaluating(self.model):
            steps = decode(self.model, ids, None if alike else mask, choose)
            for chosen, logits in islice(steps, max_tokens):
                tokens.append(chosen)
                logprobs.append(chosen_log_probs(logits, chosen))
        return {
            "tokens": torch.stack(tokens, 1).tolist(),
            "logprobs": torch.stack(logprobs, 1).tolist(),
        }

    def score(self, prompts: list[list[int]]) -> dict[str, Any]:
        """Read the prompts and say how probable each token was after those before it."""
        found = teacher_forced(self.model, prompts)
        return {
            "logprobs": [row.log_probs.tolist() for row in found],
            "best": [row.best.tolist() for row in found],
        }

    def judge(self, prompts: list[list[int]], served: list[list[int]]) -> dict[str, Any]:
        """Say how far this model was from serving the tokens ``served`` after ``prompts``."""
        ranks, margins = divergences(
            self.model, prompts, served, temperature=self._temperature, seed=self._seed
        )
        return {"ranks": ranks, "margins": margins}

    def kernels(self, prompts: list[list[int]], max_tokens: int) -> dict[str, Any]:
        """Decode one batch under torch's profiler."""
        cuda = next(self.model.parameters()).is_cuda
        return profiled(lambda: self.generate(prompts, max_tokens), cuda=cuda)

    def prepare(
        self,
        folder: str | None,
        *,
        source: dict[str, Any],
        quantizer: str,
        group_size: int,
        calibration: list[list[int]],
        device: str = "cpu",
        threads: int = 1,
    ) -> dict[str, Any]:
        """Quantize the original to 4 bits and save it in the format of the quantizer's name.

        Without a ``folder`` it is only quantized: for the digest. ``plain`` saves it as it is, a
        format of `benchsuite.engines.gguf_file` for llama.cpp.
        """
        torch.set_num_threads(threads)
        model = original(source, device)
        if quantizer == "plain":
            if folder is not None:
                generation_settings.save_pretrained(model, folder)
            return {"weights_sha256": None}
        if quantizer in gguf_file.TYPES:
            if folder is not None:
                gguf_file.write(model, Path(folder) / MODEL, quantizer)
            return {"weights_sha256": None}
        batch = torch.tensor(calibration, device=device)
        done = QUANTIZE[quantizer](model, batch, bits=4, group_size=group_size)
        if folder is not None:
            checkpoint.save(model, folder, format=quantizer)
        return {"weights_sha256": done.weights_sha256}

    def _use_int4(self, device: str) -> None:
        """Let every linear of the blocks run PyTorch's own int4 kernel, rounding what is not yet.

        Rounded on an asymmetric grid in groups of 128, as torchao rounds for these kernels.
        """
        # The CUDA kernel takes nothing else, and the CPU's is a hundred times faster in it. Of
        # buffers only biases are converted: rotary frequencies would lose their places.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if not quantized_linears(self.model):
            rtn.quantize(self.model, bits=4, group_size=128, sym=False)
        for name, linear in quantized_linears(self.model).items():
            linear.dtype = torch.bfloat16
            linear.bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)
            if device.startswith("cuda"):
                replace(self.model, name, Int4CudaLinear(linear))
            else:
                linear.use("int4_cpu")


class Int4CudaLinear(nn.Module):
    """A 4-bit linear on PyTorch's CUDA kernel ``_weight_int4pack_mm``, in bfloat16.

    The kernel multiplies by ``scale * (code - 8) + offset`` with scale and offset in bfloat16.
    """

    INNER_K_TILES = 8

    def __init__(self, linear: QuantizedLinear) -> None:
        super().__init__()
        codes = linear.codes  # uint8 [out, in]; the kernel wants the even columns in the high bits
        nibbles = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
        self.packed = torch.ops.aten._convert_weight_to_int4pack(nibbles, self.INNER_K_TILES)
        scales = linear.scales.float()
        offsets = (8 - linear.zeros.float()) * scales
        both = torch.stack((scales, offsets), -1)  # [out, groups, 2]
        self.parameters_of_groups = both.transpose(0, 1).contiguous().bfloat16()
        self.group_size, self.out_features = linear.group_size, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.bfloat16()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] in bfloat16."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = torch.ops.aten._weight_int4pack_mm(
            rows, self.packed, self.group_size, self.parameters_of_groups
        )
        outputs = outputs.view(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias


def drawing(prompts: Sequence[Sequence[int]], temperature: float, seed: int) -> Choice:
    """Return the choice that draws with each prompt's own noise."""
    step = count()

    def choose(logits: Tensor) -> Tensor:
        noise = torch.from_numpy(gumbel(prompts, next(step), logits.shape[-1], seed))
        return (logits.float() / temperature + noise.to(logits.device)).argmax(-1)

    return choose


def original(source: dict[str, Any], device: str) -> Any:
    """Load the model that ``source`` describes: a catalogue ``entry`` and its ``sources``."""
    sources = Sources.from_dict(source.get("sources", {}))
    return load(ModelEntry(**source["entry"]), sources, device=device).model
