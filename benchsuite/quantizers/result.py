"""What every quantizer returns, and the account that it keeps until then."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.experts import routed_tokens
from benchsuite.quantizers.linear import model_digest, stored_bytes
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.finite import refuse_overflow


@dataclass(frozen=True)
class LayerResult:
    """One quantized linear.

    ``error`` is tr(E H E^T) with E = W - W^ and the undamped Hessian H = (2/n) sum x x^T over the n
    calibration tokens: twice the mean squared error of the output vector. ``relative_error`` is
    that over tr(W H W^T). Both are None for a method that sees no data. ``damp`` is the share of
    the mean diagonal that was added to H, ``retries`` how often it had to be raised; ``seconds`` is
    the layer's share, by rows, of its group's time (0 where the method works block by block).
    ``details`` holds numbers of the method's own; its module says which. An expert's linears have
    ``routed_tokens`` there: the calibration tokens that the router sent it, of all that it saw.
    """

    name: str
    error: float | None = None
    relative_error: float | None = None
    damp: float = 0.0
    retries: int = 0
    seconds: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationResult:
    """A quantized model's account; the model itself was changed in place.

    ``weights_sha256`` covers names, codes, scales and zeros in a fixed byte order, so that it is
    equal on any device for equal codes. Sizes are of the whole model's state in bytes, tied tensors
    counted once. ``stage_seconds`` is the time by stage. ``latency_simulated`` says that roundings
    are computed beside the layers, so that the model's speed is not that of the method.
    ``recorded`` is what else the method says, JSON-able: a study's record takes it as it is.
    """

    layers: list[LayerResult]
    weights_sha256: str
    size_before_bytes: int
    size_after_bytes: int
    stage_seconds: dict[str, float] = field(default_factory=dict)
    latency_simulated: bool = False
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def raised_damping(self) -> dict[str, float]:
        """The damping of layers whose Hessian could not be factorised with the one asked for."""
        return {layer.name: layer.damp for layer in self.layers if layer.retries}

    @property
    def compression_ratio(self) -> float:
        """Size before over size after."""
        return self.size_before_bytes / self.size_after_bytes


@dataclass(frozen=True)
class _Line:
    """One linear's numbers, those that the device is still to compute as tensors."""

    name: str
    group: str
    share: float
    norms: tuple[Tensor, Tensor] | None
    damp: float
    retries: int
    details: Mapping[str, Tensor | float]

    def read(self, group_seconds: Mapping[str, float], own: dict[str, float]) -> LayerResult:
        error, relative = None, None
        if self.norms is not None:
            error = float(self.norms[0])
            relative = float(self.norms[0] / self.norms[1].clamp(min=1e-30))
        return LayerResult(
            self.name,
            error,
            relative,
            self.damp,
            self.retries,
            self.share * group_seconds.get(self.group, 0.0),
            {key: float(value) for key, value in self.details.items()} | own,
        )


class Account:
    """The account of one quantization: opened on the model as it was, closed on what it became.

    Numbers stay on the device until it is closed, since reading one would make the host wait.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._size_before = model, stored_bytes(model)
        self._clock = StageClock(next(model.parameters()).device)
        self._lines: list[_Line] = []

    def timed(self, group: str, device: torch.device | None = None) -> AbstractContextManager[None]:
        """Count what is done inside the ``with`` block as the time of a group of layers.

        ``device`` is where, if not on the model's own.
        """
        return self._clock.measure(group, device)

    def add(
        self,
        name: str,
        *,
        group: str = "",
        share: float = 1.0,
        norms: tuple[Tensor, Tensor] | None = None,
        damp: float = 0.0,
        retries: int = 0,
        details: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        """Note one linear, which took ``share`` of the time of its ``group`` (itself unless told).

        ``norms`` are tr(E H E^T) and tr(W H W^T), scalars; the rest is as in `LayerResult`.
        """
        self._lines.append(_Line(name, group or name, share, norms, damp, retries, details or {}))

    def close(self, stage_seconds: Mapping[str, float] | None = None) -> QuantizationResult:
        """Return the result (waits for the device); an error where scales or zeros overflow.

        A method without stages of its own gives none: all the time of its layers was the method's.
        """
        seconds = self._clock.seconds()
        refuse_overflow(self._model)
        stages = {"method": sum(seconds.values())} if stage_seconds is None else stage_seconds
        return QuantizationResult(
            layers=[line.read(seconds, self._routed(line.name)) for line in self._lines],
            weights_sha256=model_digest(self._model),
            size_before_bytes=self._size_before,
            size_after_bytes=stored_bytes(self._model),
            stage_seconds=dict(stages),
        )

    def _routed(self, name: str) -> dict[str, float]:
        tokens = routed_tokens(self._model, name)
        return {} if tokens is None else {"routed_tokens": float(tokens)}


def given(method: str, model: nn.Module, file_bytes: int | None = None) -> QuantizationResult:
    """Return the account of a model that ``method`` has made elsewhere.

    ``file_bytes`` is the size of the GGUF that its weights were dequantized from: there are no
    codes then to have a digest of, and latency is that of dense layers. Raises ``UsageError`` for a
    method that makes no model.
    """
    if method in ("fp16", "zeroed_layer"):
        raise UsageError(
            f"--checkpoint gives a quantized model, and {method} is none",
            fix="Select the cells of the method that made it: -k gptq_w4",
        )
    size = stored_bytes(model) if file_bytes is None else file_bytes
    return QuantizationResult(
        layers=[],
        weights_sha256=model_digest(model) if file_bytes is None else "",
        size_before_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        size_after_bytes=size,
        latency_simulated=file_bytes is not None,
    )
