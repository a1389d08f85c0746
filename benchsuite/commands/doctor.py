"""``benchsuite doctor``: what this machine has, what can run on it, and what adds the rest."""

import importlib.metadata
import os
import platform
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchsuite.commands.collecting import Collected, collect
from benchsuite.engines.registry import ENGINES
from benchsuite.errors import BenchsuiteError
from benchsuite.harness.session import Bench
from benchsuite.models.source import hub_cache, hub_offline
from benchsuite.printable import count
from benchsuite.records import environment
from benchsuite.study import Cell, study

GIB = 2**30
HUB_SECONDS = 5.0
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


def doctor(arguments: Sequence[str]) -> int:
    """Say what this machine has, what of each study can run on it, and what adds the rest.

    The words select cells as for pytest; without any all studies are looked at. Nothing is loaded
    and nothing is measured. The one request over the network is for the hub's front page.
    """
    collected = collect(arguments)
    lines = (_machine(collected), _hub(), _extras(), _engines(collected), _studies(collected))
    for title, found in zip(("machine", "hub", "extras", "engines", "studies"), lines, strict=True):
        for number, line in enumerate(found):
            print(f"{'' if number else title:<10}{line}")
    return 0


def _machine(collected: Collected) -> Iterator[str]:
    bench = collected.bench()
    own, python = environment.version("benchsuite"), platform.python_version()
    yield f"benchsuite {own}, Python {python}, {platform.system()} {platform.machine()}"
    packages = ("torch", "transformers", "numpy", "pytest", "pytest-xdist")
    yield ", ".join(f"{name} {environment.version(name)}" for name in packages)
    cpu = environment.cpu()
    yield f"{cpu.name}: {count(os.cpu_count() or 1, 'core')}, {cpu.memory_bytes / GIB:.0f} GiB"
    for gpu in environment.gpus():
        yield f"{gpu.name}: {gpu.memory_bytes / GIB:.0f} GiB, driver {gpu.driver}"
    if not environment.gpus():
        yield "no CUDA GPU: nvidia-smi names none"
    yield f"cells run on {bench.device.torch_name}"
    place = Path(bench.store.root)
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    yield f"records in {place}, {shutil.disk_usage(existing).free / GIB:.0f} GiB free"


def _hub() -> Iterator[str]:
    cache = hub_cache()
    models = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    yield f"cache {cache}: {count(models, 'model')}"
    if hub_offline():
        yield "not asked: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
        return
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(hub, timeout=HUB_SECONDS):
            yield f"{hub} answers"
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        yield f"{hub} does not answer ({reason}): --local NAME=PATH names what is at hand"


def _extras() -> Iterator[str]:
    """Yield the extras that are here, and the others with the command that adds them."""
    needed: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("benchsuite") or ():
        asked = _EXTRA.search(requirement)
        if asked:
            name = re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0]
            needed.setdefault(asked.group(1), []).append(name)
    lacking = {
        extra: [name for name in names if environment.version(name) == "absent"]
        for extra, names in needed.items()
    }
    whole = [extra for extra, names in lacking.items() if not names]
    yield f"installed: {', '.join(whole) or 'none'}"
    for extra, names in lacking.items():
        if names:
            yield f"{extra} lacks {', '.join(names)}: pip install 'benchsuite[{extra}]'"


def _engines(collected: Collected) -> Iterator[str]:
    bench = collected.bench()
    for name, entry in ENGINES.items():
        versions = bench.engine_versions(name)
        if "absent" in versions.values():
            yield f"{name} is not here: {entry.install}"
        else:
            told = ", ".join(" ".join(each) for each in versions.items())
            yield f"{name} ({told})" + (f", on {entry.device} alone" if entry.device else "")


def _studies(collected: Collected) -> Iterator[str]:
    bench = collected.bench()
    reasons: dict[str, Counter[str]] = {}
    for _, cell, _ in collected.cells:
        reasons.setdefault(cell.study, Counter())[_lacking(bench, cell)] += 1
    for name, found in reasons.items():
        able, whole = found.pop("", 0), found.total()
        yield f"{name}: {able:,} of {able + whole:,} cells can run here"
        for reason, n in found.most_common():
            yield f"  {n:,}: {reason}"


def _lacking(bench: Bench, cell: Cell) -> str:
    """Return why a cell cannot run here; "" if it can."""
    try:
        bench.require(cell)
    except BenchsuiteError as error:
        return str(error)
    name = study(cell.study).engine(cell)
    if name and "absent" in bench.engine_versions(name).values():
        return f"they run under {name}, which is not here"
    return ""
