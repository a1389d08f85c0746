"""What this device can do at best, measured in a second."""

import time

import torch

_SIZES = {"cuda": (8192, torch.float16), "cpu": (1024, torch.float32)}
_REPETITIONS = 10


def product_rate(device: str) -> float:
    """Return the floating point operations per second of a large matrix product.

    In float16 on CUDA and float32 on the CPU, the dtypes that models run in there; the best of
    ten repetitions after one that warms up.
    """
    size, dtype = _SIZES[torch.device(device).type]
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    best = min(_seconds(matrix) for _ in range(_REPETITIONS + 1))
    return 2 * size**3 / best


def _seconds(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    product = matrix @ matrix
    float(product[0, 0])  # waits for the device
    return time.perf_counter() - start
