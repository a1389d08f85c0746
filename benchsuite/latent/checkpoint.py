"""What a training keeps: the state to resume from, and the finished weights. Safetensors and JSON.

A state is a folder ``step-<n>`` that is whole or not there; only the last one is left. A finished
checkpoint holds what was trained (LoRA, projection and special tokens, or every weight) and the
configuration, so that it can be evaluated wherever the base model is.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.latent.config import Config
from benchsuite.latent.network import Reasoner

logger = logging.getLogger("benchsuite.latent")

# The name that a model's weights have everywhere: --checkpoint looks for it.
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_CARD = "checkpoint.json"
_WHOLE = "give the folder as the training wrote it"

# What decoding depends on and the tensors' shapes do not show.
_DECODING = (
    *(("data", key) for key in ("task", "marker")),
    *(("latent", key) for key in ("n_latents", "passes", "c_thought", "max_latent_stage")),
    *(("lora", key) for key in ("r", "alpha")),
)
# Of Coconut also what the last stage follows from: it thinks as many latents as that one has.
_STAGES = (("latent", "epochs_per_stage"), ("training", "num_train_epochs"))


def keep(
    folder: Path, net: Reasoner, optimizer: Any, losses: list[dict[str, float]], seconds: float
) -> None:
    """Write the state after ``len(losses)`` steps, which took ``seconds``; drop the one before."""
    final = folder / f"step-{len(losses):07d}"
    draft = folder / f".draft-{os.getpid()}-{final.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _save(draft / _WEIGHTS, trained(net))
    _save(draft / _OPTIMIZER, _optimizer_tensors(optimizer))
    (draft / _STATE).write_text(json.dumps({"losses": losses, "seconds": seconds}))
    os.rename(draft, final)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old)


def resume(folder: Path, net: Reasoner, optimizer: Any) -> tuple[list[dict[str, float]], float]:
    """Take up the last state found in ``folder``; return its losses, none where none is, and what
    its steps took in seconds.

    A state that cannot be read is dropped, and the training begins anew.
    """
    states = sorted(folder.glob("step-*"))
    if not states:
        return [], 0.0
    try:
        state = json.loads((states[-1] / _STATE).read_text())
        losses, seconds = state["losses"], float(state.get("seconds", 0.0))
        weights, tensors = (_read(states[-1] / name) for name in (_WEIGHTS, _OPTIMIZER))
    except (BenchsuiteError, OSError, ValueError, LookupError) as error:
        logger.warning("the training begins anew: %s", error)
        shutil.rmtree(states[-1])
        return [], 0.0
    _load(trained(net), weights, states[-1])
    for number, parameter in enumerate(_parameters(optimizer)):
        mine = [name for name in tensors if name.split(".")[0] == str(number)]
        optimizer.state[parameter] = {
            name.split(".", 1)[1]: tensors[name].to(
                parameter.device if tensors[name].ndim or parameter.is_cuda else "cpu"
            )
            for name in mine
        }
    return losses, seconds


def save(folder: Path, net: Reasoner, card: Mapping[str, Any]) -> None:
    """Write a finished training: its weights, and ``card`` (method, seed, configuration)."""
    _save(folder / _WEIGHTS, _finished(net))
    (folder / _CARD).write_text(json.dumps(dict(card), indent=1))


def read_card(folder: Path) -> dict[str, Any]:
    """Return what a finished checkpoint says of itself.

    Raises ``UsageError`` for a folder that is no checkpoint, or not whole.
    """
    try:
        card = json.loads((folder / _CARD).read_text())
    except OSError as error:
        raise UsageError(
            f"{folder} is no checkpoint of a latent-reasoning training: it has no {_CARD}",
            fix="give the folder that a training wrote",
        ) from error
    except ValueError as error:
        raise UsageError(f"{folder / _CARD} cannot be parsed: {error}", fix=_WHOLE) from error
    for name in ("method", "seed", "config"):
        if not isinstance(card, dict) or name not in card:
            raise UsageError(f"{folder / _CARD} has no {name!r}", fix=_WHOLE)
    return card


def refuse_another(
    folder: Path, card: Mapping[str, Any], method: str, seed: int, config: Config
) -> None:
    """Raise ``UsageError`` where a checkpoint's ``card`` is of another training than the one named.

    Settings that only training reads may differ.
    """
    for name, mine in (("method", method), ("seed", seed)):
        if card[name] != mine:
            raise UsageError(
                f"{folder} was trained as {name} {card[name]}, and this cell is {mine}",
                fix=f"select the cells of {name} {card[name]}",
            )
    now = config.as_dict()
    for section, key in (*_DECODING, *(_STAGES if method == "coconut" else ())):
        then = card["config"].get(section, {}).get(key)
        if then != now[section][key]:
            raise UsageError(
                f"{folder} was trained with {section}.{key} {then!r}, and this cell has "
                f"{now[section][key]!r}",
                fix="name its configuration with --set latent_reasoning.config=FILE",
            )


def restore(folder: Path, net: Reasoner, *, model_only: bool = False) -> None:
    """Put a finished checkpoint's weights into a network of its configuration.

    ``model_only`` leaves projection and special tokens as they are: to start a method from what
    another one trained.
    """
    tensors, mine = _read(folder / _WEIGHTS), _finished(net)
    if model_only:
        tensors = {n: t for n, t in tensors.items() if n.startswith("lm.")}
        tensors |= {n: t for n, t in mine.items() if not n.startswith("lm.")}
    _load(mine, tensors, folder)


def trained(net: Reasoner) -> dict[str, torch.Tensor]:
    """Return the tensors that training changes, by name."""
    return {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors; a file that is missing, cut off or not finite is an error."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be read: {error}", fix=_WHOLE) from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise BenchsuiteError(
            f"{len(broken)} of the checkpoint's {len(tensors)} tensors hold NaN or infinite "
            f"values, {broken[0]} the first",
            str(path),
            "train it again",
        )
    return tensors


def _finished(net: Reasoner) -> dict[str, torch.Tensor]:
    """Return what an answer needs of what was trained: an auxiliary decoder is dropped."""
    return {n: t for n, t in trained(net).items() if not n.startswith("auxiliary.")}


def _load(
    mine: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], where: Path
) -> None:
    shapes, wanted = ({n: tuple(t.shape) for n, t in each.items()} for each in (tensors, mine))
    if shapes != wanted:
        name = min(n for n, _ in shapes.items() ^ wanted.items())
        found, right = shapes.get(name, "missing"), wanted.get(name, "no such tensor")
        raise BenchsuiteError(
            "the checkpoint's tensors are not those of this model and configuration: "
            f"{name} is {found}, here it is {right}",
            str(where),
            "use the model and the configuration that it was trained with",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)


def _save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    path.chmod(0o644)


def _parameters(optimizer: Any) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(optimizer: Any) -> dict[str, torch.Tensor]:
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
    }
