"""How far GPTQ's result moves when its calibration inputs move by a rounding of their last bit.

    python benchmarks/speed/gptq_noise.py MODEL --train wiki.train.raw --test wiki.test.raw

Other kernels, another driver or another order of sums round hidden states differently. Here every
number that a layer's Hessian is given is moved by up to half a unit in the last place of float32,
or of float16, drawn anew for each run; text, seed and settings stay. Prints the perplexity of each
run, and the share of codes in which it differs from the run that nothing moved. What is left is
noise that no seed of the calibration text accounts for. Texts are files of lines, as WikiText-2's.
"""

import copy
import time
from typing import Any

import torch
from gptq_first_token import options, read_in
from torch import Tensor

from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import gptq, quantized_linears, using_kernel
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.result import Account
from benchsuite.quantizers.walking.hessian import Hessian
from benchsuite.quantizers.walking.walk import walk

SETTINGS = {"gptq_w4": {}, "gptq_w4_act": {"desc_act": True}}
HALF_UNITS = {"nothing": 0.0, "float32": 2.0**-24, "float16": 2.0**-11}


class Moved(Hessian):
    """A Hessian of inputs each of which is moved by up to ``share`` of itself."""

    share, generator = 0.0, torch.Generator()

    def update(self, inputs: Tensor) -> None:
        """Add inputs [tokens, features]."""
        inputs = inputs.to(torch.float64)
        if self.share:
            by = torch.rand(inputs.shape, generator=self.generator, dtype=torch.float64)
            inputs = inputs * (1 + self.share * (2 * by - 1).to(inputs.device))
        super().update(inputs)


class Gptq(gptq.GptqMethod):
    """GPTQ on such Hessians."""

    def statistic(self, here: Any, group: Any, device: torch.device) -> Hessian:
        """Return the Hessian that the group's linears share."""
        return Moved(here.linears(group)[group.linears[0]].in_features, device, self.dtype)


@torch.no_grad()
def quantized(base: Any, batch: Tensor, group_size: int, desc_act: bool = False) -> Any:
    """Return a copy of the model quantized by GPTQ, at the calibration study's settings."""
    model = copy.deepcopy(base)
    device = next(model.parameters()).device
    kernel = gptq.block_quantizer(device)
    grid = QuantizationGrid(4, group_size, True)
    method = Gptq(Account(model), grid, 0.01, desc_act, kernel)
    walk(model, batch, method, architecture=architecture_of(model))
    return model


def codes_of(model: Any) -> Tensor:
    """Return all codes of a quantized model, one after the other, on the CPU."""
    return torch.cat([layer.codes.flatten().cpu() for layer in quantized_linears(model).values()])


def main() -> None:
    """Print one line a run."""
    parser = options(group_size=64)
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--runs", type=int, default=5)
    told = parser.parse_args()
    base, batch, test = read_in(told, torch.bfloat16)

    def read(model: Any) -> float:
        with using_kernel(model, "held"):
            return perplexity(model, test, seq_len=told.seq_len).value

    print(f"{base.dtype}, not quantized {read(base):.4f}", flush=True)
    for name, settings in SETTINGS.items():
        for unit, Moved.share in HALF_UNITS.items():
            for run in range(told.runs if Moved.share else 1):
                began, _ = time.perf_counter(), Moved.generator.manual_seed(run)
                model = quantized(base, batch, told.group_size, **settings)
                codes = codes_of(model)
                if not Moved.share:
                    unmoved = codes
                differ = 100 * float((codes != unmoved).double().mean())
                print(
                    f"{name:12} {unit:8} {run} perplexity {read(model):7.3f}, "
                    f"{differ:6.3f} % of the codes differ  {time.perf_counter() - began:5.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
