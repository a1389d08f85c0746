"""What git leaves in the place of a large file that git-lfs did not fetch."""

from pathlib import Path

from benchsuite.errors import BenchsuiteError

_BEGINS = b"version https://git-lfs"


def refuse_pointer(file: Path) -> None:
    """Raise ``BenchsuiteError`` where a file is git-lfs' pointer to what it should hold.

    So it is in a clone of a hub repository that was made without git-lfs.
    """
    with file.open("rb") as stream:
        found = stream.read(len(_BEGINS))
    if found == _BEGINS:
        raise BenchsuiteError(
            f"{file.name} is git-lfs' pointer to the file and not the file itself",
            str(file.parent),
            "Run `git lfs pull` in that folder, or download the file",
        )
