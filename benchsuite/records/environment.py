"""Facts about this machine and its software, gathered without importing torch."""

import csv
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.errors import CellCannotRun

# Whatever of these changes may change a number in its last bits.
NUMERIC_PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")
# On a GPU its kernels do part of the arithmetic, and torch's own operations where it is absent.
_CUDA_PACKAGES = ("triton",)
_INSTRUCTION_SETS = ("amx_bf16", "amx_int8", "avx512f", "avx2", "asimd", "sve")


@dataclass(frozen=True)
class Device:
    """A device that cells run on; ``torch_name`` is what torch calls it."""

    kind: str
    name: str
    capability: str
    memory_bytes: int
    driver: str = ""
    uuid: str = ""

    @property
    def torch_name(self) -> str:
        """The torch device: one worker sees one GPU, which is its ``cuda:0``."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


@functools.cache
def version(package: str) -> str:
    """Return the installed version of a distribution, or ``absent``."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


__version__ = version("benchsuite")
"""The version of the installed package."""


@functools.cache
def versions_in(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of distributions in an interpreter, or ``absent``.

    What else the interpreter prints, its banner or a script's around it, is passed over. One that
    does not answer has none of them.
    """
    if python == sys.executable:
        return {package: version(package) for package in packages}
    try:
        said = subprocess.run(
            [python, "-c", _ASK_VERSIONS, _VERSIONS, *packages],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(packages, "absent")
    lines = [line for line in said.splitlines() if line.startswith(_VERSIONS.encode())]
    found = json.loads(lines[-1].removeprefix(_VERSIONS.encode())) if lines else {}
    return {package: found.get(package) or "absent" for package in packages}


def version_of_program(path: str) -> str:
    """Return the line in which a program tells its version, or ``absent`` where it tells none."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "absent"
    said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    return next((line.strip() for line in said if "version" in line.lower()), "absent")


_VERSIONS = "benchsuite asked for versions: "
_ASK_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for package in sys.argv[2:]:
    try:
        found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
print("\\n" + sys.argv[1] + json.dumps(found))
"""


@functools.cache
def cpu() -> Device:
    """Describe the processor."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    except OSError:
        pass
    capability = "+".join(f for f in _INSTRUCTION_SETS if f in flags) or platform.machine()
    return Device("cpu", name, capability, _ram_bytes())


def _ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus() -> tuple[Device, ...]:
    """List the NVIDIA GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible, in its order.

    As for CUDA itself, an entry that names no GPU hides itself and all that follow. Numbers count
    in the order of nvidia-smi, that of the PCI bus.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return _installed_gpus()
    return tuple(_visible(_installed_gpus(), [c.strip() for c in chosen.split(",")]))


def _visible(found: Sequence[Device], chosen: Sequence[str]) -> Iterator[Device]:
    for choice in chosen:
        if choice.isdigit():
            named = list(found[int(choice) : int(choice) + 1])
        else:
            named = [gpu for gpu in found if choice and gpu.uuid.startswith(choice)]
        if len(named) != 1:
            return
        yield named[0]


@functools.cache
def _installed_gpus() -> tuple[Device, ...]:
    if not shutil.which("nvidia-smi"):
        return ()
    query = "name,compute_cap,memory.total,driver_version,uuid"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = csv.reader(answer.stdout.splitlines(), skipinitialspace=True)
    # A GPU that shares the system's memory reports none of its own.
    return tuple(
        Device(
            "cuda",
            name,
            f"sm_{capability.replace('.', '')}",
            int(mib) * 2**20 if mib.isdigit() else _ram_bytes(),
            driver,
            uuid,
        )
        for name, capability, mib, driver, uuid in rows
    )


def gpus_for(each: int) -> tuple[Device, ...]:
    """List the visible GPUs that processes with ``each`` of them may take.

    Several are of one model, the first one's: only those give the same bits.
    """
    found = gpus()
    return found if each == 1 else tuple(gpu for gpu in found if gpu.name == found[0].name)


def other_gpu() -> Device | None:
    """Return a GPU of this machine that CUDA does not see here, of the same model, or None.

    A process that has taken one of several GPUs may try what it measures on another.
    """
    mine = gpus()
    others = [gpu for gpu in _installed_gpus() if gpu not in mine]
    return next((gpu for gpu in others if mine and gpu.name == mine[0].name), None)


def check_gpus(each: int, wish: str) -> None:
    """Raise `CellCannotRun` unless ``each`` GPUs of one model are visible and wished for."""
    found = () if wish == "cpu" else gpus_for(each)
    if each > max(1, len(found)):
        seen = f"{len(found)} of {found[0].name}" if found else "none"
        raise CellCannotRun(
            f"--gpus-per-cell {each} was asked for and {seen} can be used here",
            fix=f"set it to {max(1, len(found))}, or make more GPUs of one model visible",
        )


def choose_device(wish: str) -> Device:
    """Return the device for ``--device auto|cpu|cuda``; ``cuda`` without a GPU cannot run."""
    if wish == "cpu":
        return cpu()
    if gpus():
        return gpus()[0]
    if wish == "cuda":
        raise CellCannotRun(
            "--device cuda was asked for and no CUDA GPU is visible",
            fix="run on a machine with a GPU, or leave --device at auto",
        )
    return cpu()


def named(torch_name: str) -> Device:
    """Return the device that PyTorch calls by a name: ``cpu``, ``cuda`` or ``cuda:1``."""
    kind, _, index = torch_name.partition(":")
    return gpus()[int(index or 0)] if kind == "cuda" else cpu()


def _numeric_packages(device_kind: str) -> tuple[str, ...]:
    return NUMERIC_PACKAGES + (_CUDA_PACKAGES if device_kind == "cuda" else ())


def _key(package: str) -> str:
    return package.replace("-", "_")


def describe(device: Device, threads: int, gpus: int = 1) -> dict[str, Any]:
    """Return the record's ``environment``: versions and device, no user or host names.

    ``gpus`` counts those of a cell; it is told where there are several.
    """
    return {
        "benchsuite": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        **{_key(name): version(name) for name in _numeric_packages(device.kind)},
        "device": device.name,
        "device_kind": device.kind,
        "capability": device.capability,
        "driver": device.driver,
        "threads": threads,
        **({"gpus": gpus} if device.kind == "cuda" and gpus > 1 else {}),
    }


def numeric_identity(environment: dict[str, Any], packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the part of an environment that enters the fingerprint.

    ``packages`` are the further distributions that a cell computes with: adapters and engines.
    """
    names = map(_key, _numeric_packages(environment["device_kind"]))
    keys = [*names, "device", "device_kind", "capability", "threads"]
    return {key: environment[key] for key in keys} | {p: version(p) for p in packages}
