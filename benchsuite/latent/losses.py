"""The three kinds of loss: the answer's, CODI's on hidden states, KaVa's on the key-value cache."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchsuite.latent.fused import nll
from benchsuite.latent.transfer import rounded, send

Parts = dict[str, Tensor]  # a loss' named, weighted parts

DISTANCES: dict[str, Callable[..., Tensor]] = {
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "mse": F.mse_loss,
}


def token_loss(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, wanted: Tensor
) -> Tensor:
    """Return -(1/N) log p of each sequence's N wanted tokens, averaged over the batch.

    ``head`` makes logits [n, vocabulary] of hidden states; those of ``hidden`` [B, L, hidden]
    predict ``targets`` [B, L]. ``wanted`` [B, L] says which count, and only those pass the head;
    both are on the host. A sequence weighs the same whatever its length, so that micro-batches
    add up to their batch.
    """
    wanted = wanted.bool()
    share = wanted / (wanted.sum(1, keepdim=True).clamp(min=1) * len(wanted))
    along = rounded(int(wanted.sum())) - int(wanted.sum())  # rows without a weight
    places, chosen, weights = (
        send(F.pad(t, (0, along)), hidden.device)
        for t in (wanted.flatten().nonzero()[:, 0], targets[wanted], share[wanted])
    )
    logits = head(hidden.flatten(0, 1).index_select(0, places))
    return (nll(logits, chosen) * weights).sum()


def codi_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over layers of smoothL1(student, sg teacher) / std(teacher).

    Both are [layers, B, hidden], of the token before the answer. The deviation is that of the
    teacher's layer over batch and width (CODI, arXiv 2502.21074).
    """
    teacher = teacher.detach().float()
    distance = F.smooth_l1_loss(student.float(), teacher, reduction="none").mean((1, 2))
    return (distance / deviation(teacher, (1, 2)).flatten()).mean()


def kv_loss(
    student_keys: Tensor,
    student_values: Tensor,
    teacher_keys: Tensor,
    teacher_values: Tensor,
    mask: Tensor,
    *,
    kind: str,
    layer_std: bool,
) -> Tensor:
    """Return half the distance of the keys plus half that of the values, the teacher detached.

    All are [layers, B, kv_heads, M, d], ``mask`` [layers, B, kv_heads, M] is False on slots that
    the teacher leaves free. The distance ``kind`` (of ``DISTANCES``) is a mean over all that is not
    masked, the paper's 1/M taken over layers, heads and width as well. ``layer_std`` divides
    student and teacher by one number, the standard deviation of the teacher's layer.
    """
    total = student_keys.new_zeros((), dtype=torch.float32)
    weight = mask[..., None].float()
    count = (weight.sum() * student_keys.shape[-1]).clamp(min=1)
    for student, teacher in ((student_keys, teacher_keys), (student_values, teacher_values)):
        student, teacher = student.float(), teacher.detach().float()
        if layer_std:
            scale = _masked_deviation(teacher, weight)
            student, teacher = student / scale, teacher / scale
        distance = DISTANCES[kind](student, teacher, reduction="none")
        total = total + 0.5 * (distance * weight).sum() / count
    return total


def deviation(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the standard deviation over ``dims``, which stay as 1 each, never below 1e-6."""
    return values.std(dims, correction=0, keepdim=True).clamp(min=1e-6)


def _masked_deviation(values: Tensor, weight: Tensor) -> Tensor:
    """Return each layer's standard deviation [layers, 1, 1, 1, 1] over what is not masked."""
    dims = (1, 2, 3, 4)
    count = (weight.sum(dims, keepdim=True) * values.shape[-1]).clamp(min=1)
    mean = (values * weight).sum(dims, keepdim=True) / count
    square = ((values - mean).square() * weight).sum(dims, keepdim=True) / count
    return square.sqrt().clamp(min=1e-6)
