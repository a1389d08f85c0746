"""Where and when a figure of this folder was measured."""

import datetime
import platform
from typing import Any

import torch

from benchsuite.records import environment


def facts(device: str) -> dict[str, Any]:
    """Return the device, torch, Python and the day."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else environment.cpu().name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def line(device: str) -> str:
    """Return the same and transformers' version, for the line below a table."""
    told = facts(device)
    return (
        f"{told['device']}, {told['date']}, Python {told['python']}, torch {told['torch']}, "
        f"transformers {environment.version('transformers')}"
    )
