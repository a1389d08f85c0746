"""What every quantizer returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerResult:
    """One quantized linear.

    ``error`` is tr(E H E^T) with E = W - W^ and the undamped Hessian H = (2/n) sum x x^T over the n
    calibration tokens: twice the mean squared error of the output vector. ``relative_error`` is
    that over tr(W H W^T). Both are None for a method that sees no data. ``damp`` is the share of
    the mean diagonal that was added to H, ``retries`` how often it had to be raised; ``seconds`` is
    the layer's share, by rows, of its group's time (0 where the device runs asynchronously).
    ``details`` holds numbers of the method's own; its module says which.
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
    """

    layers: list[LayerResult]
    weights_sha256: str
    size_before_bytes: int
    size_after_bytes: int
    stage_seconds: dict[str, float] = field(default_factory=dict)
    latency_simulated: bool = False

    @property
    def raised_damping(self) -> dict[str, float]:
        """The damping of layers whose Hessian could not be factorised with the one asked for."""
        return {layer.name: layer.damp for layer in self.layers if layer.retries}

    @property
    def compression_ratio(self) -> float:
        """Size before over size after."""
        return self.size_before_bytes / self.size_after_bytes
