"""Do two models fit in memory together? Counted from their files, before either is opened."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchsuite import catalog
from benchsuite.catalog import Sources, is_gguf
from benchsuite.comparing.endpoint import is_endpoint
from benchsuite.comparing.hqq_folder import is_hqq
from benchsuite.comparing.measured import BOTH, BY_BLOCKS, IN_TURN
from benchsuite.comparing.subject import checkpoint_of, own_dtype
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.models import source
from benchsuite.models.folder import read_config, tensor_headers
from benchsuite.models.gguf import describe
from benchsuite.quantizers.checkpoint.settings import has_settings

# Of the free memory; the rest is for a chunk's activations and logits.
_SHARE = 0.8


@dataclass(frozen=True)
class Fit:
    """How the models of a comparison fit on its device.

    ``in_turn`` says that the base and a candidate do not fit together. ``by_blocks`` are the places
    of those that do not fit alone: they lie on the host.
    """

    device: torch.device
    in_turn: bool = False
    by_blocks: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, words: Sequence[str], places: Sequence[int], sources: Sources, device: str
    ) -> "Fit":
        """Return how the base, ``words[0]``, and the candidates at ``places`` fit."""
        here = [place for place in (0, *places) if not is_endpoint(words[place])]
        sizes = {place: weight_bytes(words[place], sources, device) for place in here}
        free, base = room(device), sizes.pop(0, None)
        in_turn = base is not None and any(base + size > free for size in sizes.values())
        too_large = [place for place, size in {**sizes, 0: base or 0}.items() if size > free]
        # Of a device that is the host itself there is no other place to lie.
        by_blocks = frozenset(too_large if device.startswith("cuda") else ())
        return cls(torch.device(device), in_turn, by_blocks)

    def device_of(self, place: int) -> str:
        """Return where the model of a place is opened."""
        return "cpu" if place in self.by_blocks else str(self.device)

    @property
    def how(self) -> str:
        """In words, as a ``Reading`` has it."""
        if not self.in_turn:
            return BOTH
        return BY_BLOCKS if self.by_blocks else IN_TURN


def weight_bytes(word: str, sources: Sources, device: str) -> int:
    """Return the bytes that the model of a word takes while it reads text.

    A packed model is read with its weights held dequantized. Raises what `open_subject` does.
    """
    if word in catalog.MODELS:
        return source.requirements(catalog.model(word), sources, device=device)
    path = source.within(Path(word).expanduser())
    if is_gguf(path):
        return describe(path, FileDigests(sources.digest_cache)).n_parameters * 4
    folder = checkpoint_of(word)
    size = catalog.DTYPE_BYTES[own_dtype(folder, device)]
    settings = read_config(folder).get("quantization_config") or {}
    bits = _bits(settings) if has_settings(folder) or is_hqq(folder) else 0
    values = sum(
        math.prod(shape) * _values(kind, bits) for _, _, kind, shape in tensor_headers(folder)
    )
    return int(values * size)


def _values(kind: str, bits: int) -> float:
    """Return how many weights one stored number holds, of a model packed to ``bits``."""
    if not bits or kind in ("F64", "F32", "F16", "BF16", "I64"):
        return 1
    if kind == "I32":
        return 32 / bits
    return 8 / min(bits, 8) if kind == "U8" else 1


def _bits(settings: Mapping[str, Any]) -> int:
    """Return the bits of a packed weight as its settings tell them, 4 where they do not."""
    groups = (settings.get("config_groups") or {}).values()
    told = [settings.get("bits"), settings.get("w_bit")]
    told += [(g.get("weights") or {}).get("num_bits") for g in groups if isinstance(g, dict)]
    return next((bits for bits in told if isinstance(bits, int) and 0 < bits <= 16), 4)


def room(device: str) -> int:
    """Return the bytes that weights may take on a device now."""
    if device.startswith("cuda"):
        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable"))
        return int(_SHARE * int(free.split()[1]) * 1024)
    except (OSError, StopIteration, ValueError):
        return 2**62  # the system does not tell: it says so itself when there is none
