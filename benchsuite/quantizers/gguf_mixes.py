"""Which type of ggml's each tensor of a model gets: llama.cpp's mixes, as ``llama-quantize`` does.

From ``llama_tensor_get_type_impl`` of ``src/llama-quant.cpp``, for the mixes that people load. A
mix has a type for all matrices, and better ones for those that it pays for: the head (and a table
of embeddings that serves as one), attn_v, ffn_down, in Q3_K_M attn_output. A type whose blocks do
not divide a row gives way to one of blocks of 32.
"""

from dataclasses import dataclass

MIXES = {
    "q8_0": "Q8_0",
    "q5_k_m": "Q5_K",
    "q4_k_m": "Q4_K",
    "q3_k_m": "Q3_K",
    "q4_0": "Q4_0",
    "iq4_nl": "IQ4_NL",
}
"""By the name of a mix: the type of the matrices for which there is no rule."""

FALLBACKS = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What rows of no multiple of 256 get; rows of no multiple of 32 are float16."""

ROLES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "qkv_proj": "attn_qkv",
    "o_proj": "attn_output",
    "out_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "gate_up_proj": "ffn_up",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "fc1": "ffn_up",
    "fc2": "ffn_down",
}
"""What llama.cpp calls a linear, by the last part of its path."""

EMBEDDINGS, HEAD = "token_embd", "output"
_EXPERTS = 8  # Mixtral's, for which there are rules
_SHARED_HEADS_LAYERS = 80  # those of models of 70B, whose few value heads serve many queries


@dataclass(frozen=True)
class Shape:
    """What the rules ask about a model; ``queries_per_key`` is heads over heads of keys."""

    n_blocks: int
    queries_per_key: float = 1.0
    n_experts: int = 1
    tied: bool = False


def type_of(mix: str, role: str, block: int, width: int, model: Shape, *, imatrix: bool) -> str:
    """Return the type of one tensor, whose rows are ``width`` long, in block number ``block``.

    ``role`` is llama.cpp's name without number and ending. ``imatrix`` says whether there is an
    importance matrix.
    """
    chosen = _by_rule(mix, role, block, width, model, imatrix)
    if width % _block(chosen) == 0:
        return chosen
    return FALLBACKS.get(chosen, "F16") if width % 32 == 0 else "F16"


def _by_rule(mix: str, role: str, block: int, width: int, model: Shape, imatrix: bool) -> str:
    usual = MIXES[mix]
    if role == HEAD or (role == EMBEDDINGS and model.tied):
        return "Q8_0" if usual == "Q8_0" or width % _block(usual) else "Q6_K"
    if role in ("attn_v", "attn_qkv"):
        return _of_values(mix, block, model)
    experts = model.n_experts == _EXPERTS
    if role == "attn_k" and experts:
        return "Q8_0"
    if role == "attn_output":
        if experts and mix in ("q3_k_m", "q4_k_m", "iq4_nl"):
            return "Q5_K"
        return "Q4_K" if mix == "q3_k_m" and not experts else usual
    return _of_down(mix, block, model.n_blocks, imatrix) if role == "ffn_down" else usual


def _of_down(mix: str, block: int, n: int, imatrix: bool) -> str:
    if mix == "q3_k_m":
        return "Q5_K" if block < n // 16 else "Q4_K"
    if mix in ("q4_k_m", "q5_k_m") and more_bits(block, n):
        return "Q6_K"
    if mix == "iq4_nl" and block < n // 8 and not imatrix:
        return "Q5_K"
    if mix == "q4_0" and block < n // 8 and imatrix:
        return "Q4_1"
    return MIXES[mix]


def _of_values(mix: str, block: int, model: Shape) -> str:
    chosen = MIXES[mix]
    if mix == "q3_k_m":
        chosen = "Q5_K" if block < 2 else "Q4_K"
    elif mix == "iq4_nl" and model.queries_per_key >= 4:
        chosen = "Q5_K"
    elif mix in ("q4_k_m", "q5_k_m") and more_bits(block, model.n_blocks):
        chosen = "Q6_K"
    shared = model.n_blocks == _SHARED_HEADS_LAYERS and model.queries_per_key > 1
    if shared and chosen in ("Q3_K", "Q4_K"):
        chosen = "Q5_K"
    return "Q8_0" if model.n_experts == _EXPERTS else chosen


def more_bits(block: int, n_blocks: int) -> bool:
    """``use_more_bits``: the first and last eighth of the blocks, and every third between."""
    eighth = n_blocks // 8
    return block < eighth or block >= 7 * n_blocks // 8 or (block - eighth) % 3 == 2


def _block(kind: str) -> int:
    return 256 if kind.endswith("_K") else 32
