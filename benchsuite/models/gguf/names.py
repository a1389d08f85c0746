"""One map per architecture: each tensor of the file, the name transformers gives it, its shape.

From llama.cpp's ``convert_hf_to_gguf.py`` (what it does to a weight is undone here) and
``gguf-py/gguf/tensor_mapping.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchsuite.models.gguf.reader import Gguf
from benchsuite.printable import some

# What stands in a shape: q and kv are the rows of all heads together, hd those of one.
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Target:
    """Where one tensor goes: its name in a checkpoint, and its shape in ``Sizes``' terms.

    What the file's writer did to the values is undone: ``permuted`` names the heads whose rows it
    put in pairs (empty: none), ``offset`` is what it added.
    """

    name: str
    shape: tuple[str, ...]
    permuted: str = ""
    offset: int = 0

    def undone(self, values: np.ndarray, sizes: Sizes) -> np.ndarray:
        """Return the checkpoint's values of the file's.

        Permuted rows are the pairs that rotate together, one after the other; transformers has all
        first members of a head, then all second ones.
        """
        if self.permuted:
            pairs = values.reshape(sizes[self.permuted], sizes["hd"] // 2, 2, -1)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        return values - np.float32(self.offset) if self.offset else values


def _norms(names: Mapping[str, str], offset: int = 0) -> dict[str, Target]:
    shape = {"attn_q_norm": "hd", "attn_k_norm": "hd"}
    return {
        f"{name}.weight": Target(f"{target}.weight", (shape.get(name, "hidden"),), offset=offset)
        for name, target in names.items()
    }


_QKV = {
    "attn_q.weight": Target("self_attn.q_proj.weight", ("q", "hidden")),
    "attn_k.weight": Target("self_attn.k_proj.weight", ("kv", "hidden")),
    "attn_v.weight": Target("self_attn.v_proj.weight", ("kv", "hidden")),
}
_QKV_BIASES = {
    "attn_q.bias": Target("self_attn.q_proj.bias", ("q",)),
    "attn_k.bias": Target("self_attn.k_proj.bias", ("kv",)),
    "attn_v.bias": Target("self_attn.v_proj.bias", ("kv",)),
}
_PERMUTED_QKV = _QKV | {
    "attn_q.weight": Target("self_attn.q_proj.weight", ("q", "hidden"), "heads"),
    "attn_k.weight": Target("self_attn.k_proj.weight", ("kv", "hidden"), "kv_heads"),
}
_OUTPUT = {"attn_output.weight": Target("self_attn.o_proj.weight", ("hidden", "q"))}
_DOWN = {"ffn_down.weight": Target("mlp.down_proj.weight", ("hidden", "ff"))}
_MLP = {
    "ffn_gate.weight": Target("mlp.gate_proj.weight", ("ff", "hidden")),
    "ffn_up.weight": Target("mlp.up_proj.weight", ("ff", "hidden")),
    **_DOWN,
}
_FUSED = {
    "attn_qkv.weight": Target("self_attn.qkv_proj.weight", ("qkv", "hidden")),
    "ffn_up.weight": Target("mlp.gate_up_proj.weight", ("gate_up", "hidden")),
    **_DOWN,
}
_TWO_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}

BLOCKS: dict[str, dict[str, Target]] = {
    "llama": _PERMUTED_QKV | _OUTPUT | _MLP | _norms(_TWO_NORMS),
    "qwen2": _QKV | _QKV_BIASES | _OUTPUT | _MLP | _norms(_TWO_NORMS),
    "qwen3": _QKV | _OUTPUT | _MLP | _norms(_TWO_NORMS | _HEAD_NORMS),
    "phi3": _FUSED | _OUTPUT | _norms(_TWO_NORMS),
    "gemma2": _QKV | _OUTPUT | _MLP | _norms(_FOUR_NORMS, 1),
    "gemma3": _QKV | _OUTPUT | _MLP | _norms(_FOUR_NORMS | _HEAD_NORMS, 1),
}
"""By the name of the architecture in the file: the tensors of one block, all of them needed."""

BIASES: dict[str, dict[str, dict[str, Target]]] = {
    "llama": {
        "attention_bias": {
            "attn_q.bias": Target("self_attn.q_proj.bias", ("q",), "heads"),
            "attn_k.bias": Target("self_attn.k_proj.bias", ("kv",), "kv_heads"),
            "attn_v.bias": Target("self_attn.v_proj.bias", ("kv",)),
            "attn_output.bias": Target("self_attn.o_proj.bias", ("hidden",)),
        },
        "mlp_bias": {
            "ffn_gate.bias": Target("mlp.gate_proj.bias", ("ff",)),
            "ffn_up.bias": Target("mlp.up_proj.bias", ("ff",)),
            "ffn_down.bias": Target("mlp.down_proj.bias", ("hidden",)),
        },
    }
}
"""What a block may have beside ``BLOCKS``: all of them or none, by the setting of transformers."""

# They hold no weights: config.json says what they say.
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def targets(file: Gguf, architecture: str, n_blocks: int, sizes: Sizes) -> dict[str, Target]:
    """Return where each tensor of the file goes, by its name in the file.

    Raises ``BenchsuiteError`` for a tensor that is unknown, missing or of another shape.
    """
    # Gemma's norms multiply by one more than their weight: the file has it added, a folder has not.
    offset = 1 if architecture.startswith("gemma") else 0
    expected = {
        "token_embd.weight": Target("model.embed_tokens.weight", ("vocabulary", "hidden")),
        "output_norm.weight": Target("model.norm.weight", ("hidden",), offset=offset),
    }
    block = BLOCKS[architecture] | {
        name: target
        for setting in biases(file, architecture, n_blocks)
        for name, target in BIASES[architecture][setting].items()
    }
    for number in range(n_blocks):
        for name, target in block.items():
            place = f"model.layers.{number}.{target.name}"
            expected[f"blk.{number}.{name}"] = replace(target, name=place)
    if not tied(file):
        expected["output.weight"] = Target("lm_head.weight", ("vocabulary", "hidden"))
    found = file.tensors.keys() - set(FACTORS)
    if unknown := sorted(found - expected.keys()):
        raise file.error(
            f"the file holds tensors that {architecture} is not known to have: {some(unknown)}",
            "Give a file of the plain architecture, or the folder of the original checkpoint",
        )
    if missing := sorted(expected.keys() - found):
        raise file.error(
            f"the file lacks tensors that {architecture} needs: {some(missing)}",
            "Convert the model again, or download the file again",
        )
    for name, target in expected.items():
        shape = tuple(sizes[size] for size in target.shape)
        if file.tensors[name].shape != shape:
            raise file.error(
                f"tensor {name} has shape {list(file.tensors[name].shape)}, and the file's "
                f"metadata say {list(shape)}",
                "Convert the model again, or download the file again",
            )
    return expected


def biases(file: Gguf, architecture: str, n_blocks: int) -> list[str]:
    """Return the settings of ``BIASES`` that the file's blocks all have the tensors of."""
    return [
        setting
        for setting, block in BIASES.get(architecture, {}).items()
        if all(f"blk.{i}.{name}" in file.tensors for i in range(n_blocks) for name in block)
    ]


def tied(file: Gguf) -> bool:
    """Return whether the file has no head of its own: the embeddings serve as one."""
    return "output.weight" not in file.tensors
