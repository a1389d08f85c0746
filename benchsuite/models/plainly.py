"""How every model is computed here, whatever its configuration asks for beside that."""

from typing import Any

from benchsuite.models.attention import keep_cap

# What training asks for in config.json and a forward follows: the losses of routers, which want
# the mask of a whole text and fail beside a cache, states of every layer, and tuples without names.
_ASKED_FOR = {
    "output_router_logits": False,
    "output_hidden_states": False,
    "output_attentions": False,
    "return_dict": True,
}


def compute_plainly(model: Any) -> None:
    """Let ``model`` give logits alone and keep its attention's soft cap, in place."""
    keep_cap(model)
    for config in (model.config, model.config.get_text_config()):
        for name, value in _ASKED_FOR.items():
            if getattr(config, name, value) != value:
                setattr(config, name, value)
