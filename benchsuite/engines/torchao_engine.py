"""The engine ``torchao``: transformers with the linears of the blocks quantized by torchao.

Int4 weights in groups of 128 through ``IntxWeightOnlyConfig``, which runs on a CPU; torchao's
``Int4WeightOnlyConfig`` wants CUDA kernels that its CPU wheels lack.
"""

from typing import Any

import torch
import torchao

from benchsuite.engines import torch_engine
from benchsuite.models.architecture import architecture_of

GROUP_SIZE = 128


class Engine(torch_engine.Engine):
    """A model under transformers whose linears torchao has quantized on load."""

    def load(self, **settings: Any) -> dict[str, Any]:
        """Load the original model and quantize the linears of its blocks."""
        from torchao.quantization import IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerGroup

        super().load(**{**settings, "checkpoint_folder": None, "kernel": ""})
        wanted = {name for name, _ in architecture_of(self.model).named_linears(self.model)}
        config = IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            granularity=PerGroup(GROUP_SIZE),
        )
        quantize_(self.model, config, filter_fn=lambda module, name: name in wanted)
        return self.describe() | {"torchao": torchao.__version__}
