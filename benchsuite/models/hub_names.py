"""What tensors are called in a checkpoint, where that is not what transformers calls them.

transformers 5 renames a few families' modules while it loads, and back while it saves. Its
``conversion_mapping.py`` says how, as of version 5.17. Engines and other tools know the hub's
names, so checkpoints are written with those; both are read.
"""

import re

_Renamings = tuple[tuple[str, str], ...]

_TO_HUB: dict[str, _Renamings] = {
    "mixtral": (
        (r"\.mlp\.", ".block_sparse_moe."),
        (r"(\.experts\.\d+)\.gate_proj\b", r"\1.w1"),
        (r"(\.experts\.\d+)\.down_proj\b", r"\1.w2"),
        (r"(\.experts\.\d+)\.up_proj\b", r"\1.w3"),
    ),
    "gemma3": (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),
        (r"^lm_head\b", "language_model.lm_head"),
    ),
}
_FROM_HUB: dict[str, _Renamings] = {
    "mixtral": (
        (r"\.block_sparse_moe\.", ".mlp."),
        (r"(\.experts\.\d+)\.w1\b", r"\1.gate_proj"),
        (r"(\.experts\.\d+)\.w2\b", r"\1.down_proj"),
        (r"(\.experts\.\d+)\.w3\b", r"\1.up_proj"),
    ),
    "gemma3": (
        (r"^language_model\.model\.", "model.language_model."),
        (r"^language_model\.lm_head\b", "lm_head"),
        (r"^vision_tower\.(vision_model\.)?", "model.vision_tower."),
        (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    ),
}


def hub_name(model_type: str, name: str) -> str:
    """Return what a checkpoint calls a module or tensor that the model tree calls ``name``.

    An expert's linears are those of a model that was taken apart (`experts.unfuse_experts`).
    """
    return _renamed(_TO_HUB.get(model_type, ()), name)


def tree_name(model_type: str, name: str) -> str:
    """Return what the model tree calls the tensor ``name`` of a checkpoint, in either naming."""
    return _renamed(_FROM_HUB.get(model_type, ()), name)


def _renamed(renamings: _Renamings, name: str) -> str:
    for pattern, replacement in renamings:
        name = re.sub(pattern, replacement, name)
    return name
