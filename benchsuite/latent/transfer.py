"""How what the host knows of a batch reaches the device: by one function, in an order of its own.

Ids, masks and indices are all that differs between two batches of one shape. Because they all pass
here, a graph that was captured for one batch can be fed with what another one sends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


def _copied(host: Tensor, device: torch.device) -> Tensor:
    return host.to(device, non_blocking=True)


@dataclass(frozen=True)
class Route:
    """How tensors are sent, and the ``multiple`` that numbers of packed rows are rounded up to.

    Batches of nearly the same number of tokens so have one shape.
    """

    carry: Callable[[Tensor, torch.device], Tensor] = _copied
    multiple: int = 1


_PLAIN = Route()
_ROUTE: ContextVar[Route] = ContextVar("route", default=_PLAIN)


@contextmanager
def taken(route: Route) -> Iterator[None]:
    """Send along a route."""
    before = _ROUTE.set(route)
    try:
        yield
    finally:
        _ROUTE.reset(before)


def send(host: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device; nothing waits for it."""
    return _ROUTE.get().carry(host, device)


def multiple() -> int:
    """Return what numbers of rows are rounded up to a multiple of: 1, where they stay."""
    return _ROUTE.get().multiple


def rounded(n: int) -> int:
    """Return a number of rows, rounded up as the route asks."""
    return -(-n // multiple()) * multiple()
