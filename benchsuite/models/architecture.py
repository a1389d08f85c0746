"""Where things are in a decoder: one small map from transformers' model type to paths.

The quantizers need to know which linears of a block read the same input (they share a Hessian, or
a smoothing scale) and what writes that input (where such a scale can be folded in). That is all
that differs between the supported families, so a new family is one entry of ``ARCHITECTURES``.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from benchsuite.errors import BenchsuiteError, UsageError, unknown_name
from benchsuite.models.experts import n_experts, unfuse_experts


@dataclass(frozen=True)
class InputGroup:
    """Linears of one block that read the same input.

    ``linears`` are paths inside the block, in the order in which the block runs them. ``source``
    is the path of the norm or linear whose output feeds them, or None where their input is also the
    residual stream, so that nothing may be folded into it. A norm multiplies by its weight plus
    ``source_offset``; of a fused linear's rows the last of ``source_parts`` equal parts feeds the
    group. ``also`` are other modules with a weight that read the same input and are not quantized
    (a router). ``module`` is the path of the module that the linears work in together, None for a
    linear whose output stands for itself.
    """

    name: str
    linears: tuple[str, ...]
    source: str | None
    module: str | None = None
    source_offset: float = 0.0
    source_parts: int = 1
    also: tuple[str, ...] = ()

    @property
    def writes_residual(self) -> bool:
        """Whether what the linears put out is added to the residual stream."""
        return self.name == "o" or self.name.endswith("down")


@dataclass(frozen=True)
class Architecture:
    """The paths of one decoder family, relative to the causal language model.

    ``embeddings`` and ``after_blocks`` name what runs before and after the blocks; modules that a
    given model lacks (OPT has projections only in one size) are left out by ``present``. ``groups``
    are in the order in which a block runs them. ``normed_outputs`` says that norms follow what
    attention and MLP write.
    """

    model_type: str
    blocks: str
    embeddings: tuple[str, ...]
    final_norm: str
    head: str
    groups: tuple[InputGroup, ...]
    after_blocks: tuple[str, ...] = ()
    normed_outputs: bool = False

    @property
    def linears(self) -> tuple[str, ...]:
        """Paths inside a block of all its linears, in the order in which the block runs them."""
        return tuple(path for group in self.groups for path in group.linears)

    def block_list(self, model: nn.Module) -> nn.ModuleList:
        """Return the model's list of decoder blocks."""
        blocks = model.get_submodule(self.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def block_name(self, index: int) -> str:
        """Return the path of block ``index`` in the model."""
        return f"{self.blocks}.{index}"

    def named_blocks(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield (path in the model, block) of every block, in the order they run."""
        for index, block in enumerate(self.block_list(model)):
            yield self.block_name(index), block

    def named_linears(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield (path in the model, module) of every block's linears, in the order they run."""
        for index, block in enumerate(self.block_list(model)):
            for path in self.linears:
                yield f"{self.block_name(index)}.{path}", block.get_submodule(path)

    def present(self, model: nn.Module, paths: tuple[str, ...]) -> dict[str, nn.Module]:
        """Return those of ``paths`` that this model has, with their modules."""
        modules = dict(model.named_modules())
        return {path: modules[path] for path in paths if path in modules}


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_ATTENTION_GROUPS = (
    InputGroup("qkv", _QKV, "input_layernorm", "self_attn"),
    InputGroup("o", ("self_attn.o_proj",), "self_attn.v_proj"),
)
_GATED_GROUPS = (
    *_ATTENTION_GROUPS,
    InputGroup("gate_up", ("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm", "mlp"),
    InputGroup("down", ("mlp.down_proj",), "mlp.up_proj"),
)
_FUSED_GROUPS = (
    InputGroup("qkv", ("self_attn.qkv_proj",), "input_layernorm", "self_attn"),
    InputGroup("o", ("self_attn.o_proj",), "self_attn.qkv_proj", source_parts=3),
    InputGroup("gate_up", ("mlp.gate_up_proj",), "post_attention_layernorm", "mlp"),
    InputGroup("down", ("mlp.down_proj",), "mlp.gate_up_proj", source_parts=2),
)
_GEMMA_GROUPS = (
    InputGroup("qkv", _QKV, "input_layernorm", "self_attn", source_offset=1.0),
    *_GATED_GROUPS[1:2],
    InputGroup(
        "gate_up",
        ("mlp.gate_proj", "mlp.up_proj"),
        "pre_feedforward_layernorm",
        "mlp",
        source_offset=1.0,
    ),
    *_GATED_GROUPS[3:],
)


def _expert_groups(n: int) -> tuple[InputGroup, ...]:
    """Return the groups of a block with ``n`` experts behind one router.

    All experts are calibrated on all tokens (see ``experts``), so their first linears read one
    input.
    """
    experts = [f"mlp.experts.{i}" for i in range(n)]
    first = tuple(f"{expert}.{linear}" for expert in experts for linear in ("gate_proj", "up_proj"))
    return (
        *_ATTENTION_GROUPS,
        InputGroup("gate_up", first, "post_attention_layernorm", "mlp", also=("mlp.gate",)),
        *(InputGroup(f"{e}.down", (f"{e}.down_proj",), f"{e}.up_proj") for e in experts),
    )


def _decoder(
    model_type: str,
    groups: tuple[InputGroup, ...] = _GATED_GROUPS,
    body: str = "model",
    **more: Any,
) -> Architecture:
    return Architecture(
        model_type=model_type,
        blocks=f"{body}.layers",
        embeddings=(f"{body}.embed_tokens",),
        final_norm=f"{body}.norm",
        head="lm_head",
        groups=groups,
        **more,
    )


def _opt(name: str, attention_source: str | None, mlp_source: str | None) -> Architecture:
    return Architecture(
        model_type=name,
        blocks="model.decoder.layers",
        embeddings=(
            "model.decoder.embed_tokens",
            "model.decoder.embed_positions",
            "model.decoder.project_in",
        ),
        final_norm="model.decoder.final_layer_norm",
        head="lm_head",
        groups=(
            InputGroup(
                "qkv",
                ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                attention_source,
                "self_attn",
            ),
            InputGroup("o", ("self_attn.out_proj",), "self_attn.v_proj"),
            InputGroup("up", ("fc1",), mlp_source),
            InputGroup("down", ("fc2",), "fc1"),
        ),
        after_blocks=("model.decoder.project_out",),
    )


ARCHITECTURES: dict[str, Architecture] = {
    "llama": _decoder("llama"),
    "mistral": _decoder("mistral"),
    "qwen2": _decoder("qwen2"),
    "qwen3": _decoder("qwen3"),
    "granite": _decoder("granite"),
    "smollm3": _decoder("smollm3"),
    "phi3": _decoder("phi3", _FUSED_GROUPS),
    "gemma2": _decoder("gemma2", _GEMMA_GROUPS, normed_outputs=True),
    "gemma3_text": _decoder("gemma3_text", _GEMMA_GROUPS, normed_outputs=True),
    # Gemma 3 from 4B on comes with an image encoder beside the same decoder.
    "gemma3": _decoder("gemma3", _GEMMA_GROUPS, "model.language_model", normed_outputs=True),
    # The groups of these two depend on the number of experts: see `architecture_of`.
    "mixtral": _decoder("mixtral", ()),
    "qwen3_moe": _decoder("qwen3_moe", ()),
    "opt": _opt("opt", "self_attn_layer_norm", "final_layer_norm"),
    # OPT-350M normalises after the addition: its linears read the residual stream itself.
    "opt_post_norm": _opt("opt_post_norm", None, None),
}


def architecture_of(model: nn.Module) -> Architecture:
    """Return the map of a transformers causal language model, found by its config's model type.

    The map of a mixture of experts names each expert's linears. transformers holds all experts in
    one tensor, so they first become modules, in place on the module tree: the same tensors, the
    same function (`experts.unfuse_experts`). Raises a usage error that names the supported types
    when there is none.
    """
    config = getattr(model, "config", None)
    name = getattr(config, "model_type", type(model).__name__)
    if name == "opt" and not getattr(config, "do_layer_norm_before", True):
        name = "opt_post_norm"
    if name not in ARCHITECTURES:
        near = unknown_name("architecture", name, ARCHITECTURES)
        raise UsageError(
            f"{near.what}: which of its linears read the same input is not known here",
            fix=f"{near.fix}. The model as it is (method fp16, `benchsuite compare`) can be "
            "measured; a new family is one entry of benchsuite/models/architecture.py",
        )
    found = ARCHITECTURES[name]
    if found.groups:
        return found
    unfuse_experts(model)
    counts = {n_experts(block.get_submodule("mlp")) for block in found.block_list(model)}
    if len(counts) != 1 or 0 in counts:
        raise BenchsuiteError(
            f"its blocks have different numbers of experts: {sorted(counts)}",
            name,
            "Only models whose blocks all have the same number of experts can be quantized here",
        )
    return dataclasses.replace(found, groups=_expert_groups(counts.pop()))
