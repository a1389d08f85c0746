"""GGUF: a model rounded as llama.cpp's ``llama-quantize`` does, with and without importance.

`gguf_mixes` says which type each tensor gets, `gguf_blocks` what a type is. Unlike other methods
this one rounds the table of embeddings and the head too, as the files that people load have them.
Biases and norms stay.

An importance matrix is, for every linear, the mean of the squared inputs of each column, which
llama.cpp's ``imatrix`` collects from the unrounded model. It finds better scales and changes
nothing that is stored. Embeddings and head have none. The experts of a mixture are weighed by all
tokens here, and by those that are sent to them there.
"""

import dataclasses

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.formats.gguf_blocks import BLOCKS, encode
from benchsuite.quantizers.formats.gguf_linear import GgufEmbedding, GgufLinear
from benchsuite.quantizers.gguf_mixes import EMBEDDINGS, HEAD, MIXES, ROLES, Shape, type_of
from benchsuite.quantizers.layers import Progress, block_linears, replace
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.energy import Energy
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs, refuse_infinite_weights
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import GIVE_BATCH, walk_blocks

_LARGEST = float(torch.finfo(torch.float16).max)


class _Rounding:
    """One model's way to a mix: what has become which type, and the account."""

    def __init__(self, model: nn.Module, mix: str, imatrix: bool) -> None:
        self.model, self.mix, self.imatrix = model, mix, imatrix
        self.architecture = architecture_of(model)
        config = model.config.get_text_config()  # type: ignore[union-attr, operator]
        heads = config.num_attention_heads
        keys = getattr(config, "num_key_value_heads", None) or heads
        self.head = model.get_output_embeddings()  # type: ignore[operator]
        self.table = model.get_input_embeddings()  # type: ignore[operator]
        self.shape = Shape(
            n_blocks=len(self.architecture.block_list(model)),
            queries_per_key=heads / keys,
            n_experts=sum(group.name.endswith("down") for group in self.architecture.groups),
            tied=self.head is None or self.head.weight is self.table.weight,
        )
        self.account = Account(model)
        self.types: dict[str, list[str]] = {}
        self.weights, self.bits = 0, 0

    def linear(
        self, name: str, block: int, linear: nn.Linear, importance: Tensor | None = None
    ) -> GgufLinear:
        """Return what replaces the linear at ``name``; ``importance`` is float32 [in]."""
        path = name.removeprefix(f"{self.architecture.block_name(block)}.")
        kind = self.type(ROLES[path.rpartition(".")[2]], block, linear.in_features)
        self.types.setdefault(path, []).append(kind)
        octets = self.encoded(name, linear.weight, kind, importance)
        self.account.add(name, details={"bits_per_weight": BLOCKS[kind].bits})
        return GgufLinear(octets, kind, bias=linear.bias, dtype=linear.weight.dtype)

    def type(self, role: str, block: int, width: int) -> str:
        """Return the type of the tensor that llama.cpp calls ``role``, of rows ``width`` long."""
        return type_of(self.mix, role, block, width, self.shape, imatrix=self.imatrix)

    def encoded(
        self, name: str, weight: Tensor, kind: str, importance: Tensor | None = None
    ) -> Tensor:
        """Return a weight's bytes, uint8 [rows, bytes]; too large a one is an error."""
        weight = weight.detach()
        if weight.abs().amax() > _LARGEST:
            raise BenchsuiteError(
                "the layer's weights are too large for scales in float16",
                name,
                "ggml's types hold no such weights: leave the model as it is",
            )
        self.weights += weight.numel()
        self.bits += int(weight.numel() * BLOCKS[kind].bits)
        return encode(weight, kind, importance)

    def ends(self) -> None:
        """Round the table of embeddings, and the head, which may be one with it."""
        (table, *_), head = self.architecture.embeddings, self.architecture.head
        width = self.table.weight.shape[1]
        kind = self.type(EMBEDDINGS, 0, width)
        self.types[table] = [kind]
        octets = self.encoded(table, self.table.weight, kind)
        replace(self.model, table, GgufEmbedding(octets, kind, self.table))
        if self.head is None:
            return
        if not self.shape.tied:
            kind = self.type(HEAD, 0, width)
            octets = self.encoded(head, self.head.weight, kind)
        self.types[head] = [kind]
        self.account.add(head, details={"bits_per_weight": BLOCKS[kind].bits})
        layer = GgufLinear(octets, kind, bias=self.head.bias, dtype=self.head.weight.dtype)
        replace(self.model, head, layer)

    def closed(self, stages: dict[str, float] | None = None) -> QuantizationResult:
        """Round what is not in the blocks, and return the result."""
        in_blocks = self.bits / self.weights
        clock = StageClock(next(self.model.parameters()).device)
        with clock.measure("ends"):
            self.ends()
        result = self.account.close(stages)
        seconds = {**result.stage_seconds}
        seconds["round"] = (
            seconds.pop("method", seconds.get("round", 0.0)) + clock.seconds()["ends"]
        )
        return dataclasses.replace(
            result,
            stage_seconds=seconds,
            # Products here are dense ones.
            latency_simulated=True,
            recorded={
                "tensor_types": self.types,
                "bits_per_weight": in_blocks,
                "bits_per_weight_with_embeddings": self.bits / self.weights,
            },
        )


def _walked(
    rounding: _Rounding, batch: Tensor, memory: WorkingMemory, progress: Progress | None
) -> dict[str, float]:
    """Weigh each block's columns by what the unrounded block reads, then round it."""

    def visit(here: Visit) -> None:
        fresh = {
            group.name: lambda device, group=group: Energy(
                here.linears(group)[group.linears[0]].in_features, device
            )
            for group in here.groups
        }
        energies = here.collect(fresh, advance=True)
        made = []
        for group in here.groups:
            energy = energies[group.name].total
            refuse_infinite_inputs(energy, f"{here.name}.{group.name}")
            with here.clock.measure("round", here.device_of(group)):
                for path, linear in here.linears(group).items():
                    name = f"{here.name}.{path}"
                    weighed = energy / batch.numel()
                    made.append((group, path, rounding.linear(name, here.index, linear, weighed)))
        for group, path, layer in made:
            here.put(group, path, layer)

    return walk_blocks(rounding.model, batch, visit, memory=memory, progress=progress)


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor | None = None,
    *,
    mix: str,
    imatrix: bool = False,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Round a model to one of `gguf_mixes.MIXES`, in place on its module tree.

    ``batch``, int64 [n_samples, seq_len], is what an ``imatrix`` is collected on; nothing else
    needs data. The result's ``recorded`` has ``tensor_types`` (by path in a block, a type for each
    block), ``bits_per_weight`` of the blocks' matrices, and that of all matrices. Raises
    ``UsageError`` for an unknown mix, and for an importance matrix without data.
    """
    if mix not in MIXES:
        raise UsageError(f"unknown GGUF mix {mix!r}", fix=f"Known: {', '.join(MIXES)}")
    if imatrix and batch is None:
        raise UsageError("an importance matrix needs calibration data", "GGUF", GIVE_BATCH)
    rounding = _Rounding(model, mix, imatrix)
    refuse_infinite_weights({"the embeddings": rounding.table})
    if imatrix:
        assert batch is not None
        return rounding.closed(_walked(rounding, batch, memory, progress))
    blocks = f"{rounding.architecture.blocks}."
    for name, linear in block_linears(model, progress):
        number = int(name.removeprefix(blocks).partition(".")[0])
        with rounding.account.timed(name):
            layer = rounding.linear(name, number, linear)
        replace(model, name, layer)
    return rounding.closed()
