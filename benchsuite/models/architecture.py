"""Where things are in a decoder: one small map from transformers' model type to paths.

The quantizers need to know which linears of a block read the same input (they share a Hessian, or
a smoothing scale) and what writes that input (where such a scale can be folded in). That is all
that differs between the supported families, so a new family is one entry of ``ARCHITECTURES``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from benchsuite.errors import unknown_name


@dataclass(frozen=True)
class InputGroup:
    """Linears of one block that read the same input.

    ``linears`` are paths inside the block, in the order in which the block runs them. ``source``
    is the path of the norm or linear whose output feeds them, or None where their input is also the
    residual stream, so that nothing may be folded into it.
    """

    name: str
    linears: tuple[str, ...]
    source: str | None


@dataclass(frozen=True)
class Architecture:
    """The paths of one decoder family, relative to the causal language model.

    ``embeddings`` and ``after_blocks`` name what runs before and after the blocks; modules that a
    given model lacks (OPT has projections only in one size) are left out by ``present``. ``groups``
    are in the order in which a block runs them.
    """

    model_type: str
    blocks: str
    embeddings: tuple[str, ...]
    final_norm: str
    head: str
    groups: tuple[InputGroup, ...]
    after_blocks: tuple[str, ...] = ()

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

    def named_linears(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield (path in the model, module) of every block's linears, in the order they run."""
        for index, block in enumerate(self.block_list(model)):
            for path in self.linears:
                yield f"{self.block_name(index)}.{path}", block.get_submodule(path)

    def present(self, model: nn.Module, paths: tuple[str, ...]) -> dict[str, nn.Module]:
        """Return those of ``paths`` that this model has, with their modules."""
        modules = dict(model.named_modules())
        return {path: modules[path] for path in paths if path in modules}


_GATED_GROUPS = (
    InputGroup(
        "qkv",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "input_layernorm",
    ),
    InputGroup("o", ("self_attn.o_proj",), "self_attn.v_proj"),
    InputGroup("gate_up", ("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
    InputGroup("down", ("mlp.down_proj",), "mlp.up_proj"),
)


def _gated(model_type: str) -> Architecture:
    return Architecture(
        model_type=model_type,
        blocks="model.layers",
        embeddings=("model.embed_tokens",),
        final_norm="model.norm",
        head="lm_head",
        groups=_GATED_GROUPS,
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
            ),
            InputGroup("o", ("self_attn.out_proj",), "self_attn.v_proj"),
            InputGroup("up", ("fc1",), mlp_source),
            InputGroup("down", ("fc2",), "fc1"),
        ),
        after_blocks=("model.decoder.project_out",),
    )


ARCHITECTURES: dict[str, Architecture] = {
    "llama": _gated("llama"),
    "mistral": _gated("mistral"),
    "qwen2": _gated("qwen2"),
    "qwen3": _gated("qwen3"),
    "opt": _opt("opt", "self_attn_layer_norm", "final_layer_norm"),
    # OPT-350M normalises after the addition: its linears read the residual stream itself.
    "opt_post_norm": _opt("opt_post_norm", None, None),
}


def architecture_of(model: nn.Module) -> Architecture:
    """Return the map of a transformers causal language model, found by its config's model type.

    Raises a usage error that names the supported types when there is none.
    """
    config = getattr(model, "config", None)
    name = getattr(config, "model_type", type(model).__name__)
    if name == "opt" and not getattr(config, "do_layer_norm_before", True):
        name = "opt_post_norm"
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]
