"""Which kernels ran, by torch's profiler; for engines whose interpreter has torch."""

import re
from collections.abc import Callable
from typing import Any

# Operators of ATen that name or move data, and compute nothing that could differ.
_BOOKKEEPING = re.compile(
    r"aten::(_?(unsafe_|reshape_)?(view|alias)|as_strided|reshape|empty\w*|zeros|ones|fill_|expand|"
    r"transpose|t|slice|select|narrow|unsqueeze|squeeze|permute|contiguous|clone|copy_|to|_to_copy|"
    r"detach|detach_|lift_fresh|resolve_\w+|result_type|set_|real|item|_local_scalar_dense|"
    r"is_nonzero|unbind|stack|cat|chunk|split|arange|resize_|numpy_T|scalar_tensor|eq|any|all)"
)


def profiled(run: Callable[[], Any], *, cuda: bool) -> dict[str, Any]:
    """Run under torch.profiler; return ``profiling_succeeded`` and ``all_kernels``.

    On CUDA the kernels by their demangled names; on a CPU the operators of ATen that compute, which
    are as near to a kernel as its profiler comes. Most time first; times in microseconds.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    try:
        with profile(activities=activities) as profiler:
            run()
            if cuda:
                torch.cuda.synchronize()
        found = _kernels(profiler, cuda)
    except Exception as error:  # profiling is evidence beside the measurement, never its end
        reason = f"{type(error).__name__}: {error}"
        return {"profiling_succeeded": False, "all_kernels": [], "error": reason}
    return {"profiling_succeeded": bool(found), "all_kernels": found}


def _kernels(profiler: Any, cuda: bool) -> list[dict[str, Any]]:
    """Return name, count and own time of what ran, summed over launches."""
    from torch.autograd import DeviceType

    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    found = []
    for event in profiler.key_averages():
        skipped = getattr(event, "is_user_annotation", False) or _BOOKKEEPING.fullmatch(event.key)
        if event.device_type != wanted or skipped or event.key.startswith(("Memcpy", "Memset")):
            continue
        if not cuda and "::" not in event.key:
            continue
        time = event.self_device_time_total if cuda else event.self_cpu_time_total
        found.append({"name": event.key, "count": event.count, "time_us": float(time)})
    return sorted(found, key=lambda kernel: -kernel["time_us"])
