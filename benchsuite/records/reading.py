"""The one reader of records: every field is checked once, and older forms are brought up to date.

What it lets through can be counted on: types, finite numbers within a double's range, text that
UTF-8 can hold, names that are safe as file names. What it does not is `CorruptRecord`, with the
field that is wrong. Version 2 is what the store writes, version 1 what it wrote before and what the
exported views hold.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records.fields import Fields, kind_of
from benchsuite.records.files import refuse_endless
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import FLAT, NESTED, SEAL, seal_of
from benchsuite.records.limits import DEEPEST, LARGEST
from benchsuite.records.record import (
    TIME,
    CellFacts,
    Failure,
    Items,
    Record,
    Source,
    Times,
)
from benchsuite.study import names, study
from benchsuite.study.declared import RESERVED

OUTCOMES = ("passed", "failed", "crashed")

# The flat form does not say which values differ from run to run; these are what cells clocked when
# it was the store's own.
_CLOCKED = re.compile(
    r".*(_seconds|_per_second|_memory_bytes|_memory_kind)|vllm_.*|timestamp|kernels(_in_batch)?"
    r"|model_not_saved"
)

_NUMERIC_CLAIMS = ("lower", "higher", "cv_below", "equivalent", "true")


class LaterVersion(BenchsuiteError):
    """A record that a later version of benchsuite wrote: it is good, and not for us to judge."""


class Misdeclared(BenchsuiteError):
    """A good record whose study, as it is declared today, takes one of its values for a number.

    The declaration changes without the record: it is the one to mend, and the record stays.
    """


class DocumentFile(CorruptRecord):
    """A file of the source documents' own: ``body`` has a model, a method and a seed, no cell."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        super().__init__("not a record: a file of the source documents' own")


def read(content: bytes) -> Record:
    """Return the record that a file's content is; `CorruptRecord` says what keeps it from one.

    One of a later version is `LaterVersion`, a file of the source documents' own is `DocumentFile`.
    """
    return record_of(sealed_object(content))


def sealed_object(content: bytes) -> dict[str, Any]:
    """Return the checked object of a file if it is what was written.

    Raises ``CorruptRecord`` otherwise, and `DocumentFile` for one of the source documents.
    """
    body = parsed(content)
    if SEAL not in body:
        if {"model", "method", "seed"} <= set(body) and not {"cell", "schema_version"} & set(body):
            raise DocumentFile(body)
        raise CorruptRecord(f"not a record: the object lacks {SEAL}")
    if seal_of(body) != body[SEAL]:
        raise CorruptRecord("the record was changed after it was written")
    return body


def read_file(path: Path) -> Record:
    """Return the record of a file; in a store's folder its name must be that of its fingerprint.

    Raises ``CorruptRecord`` for what is none, naming the file.
    """
    try:
        refuse_endless(path)
        record = read(path.read_bytes())
        if path.parent.name == "records" and path.parent.parent.name == "store":
            check_place(record, path.stem)
    except DocumentFile:
        raise
    except CorruptRecord as error:
        raise CorruptRecord(error.what, str(path)) from error
    return record


def check_place(record: Record, stem: str) -> None:
    """Raise unless a store's file of this name, without its ending, may hold the record."""
    value, _, attempt = stem.partition(".")
    if record.fingerprint.value != value:
        raise CorruptRecord("its fingerprint is not its file's name")
    if record.passed == attempt.startswith("failed-"):
        raise CorruptRecord(f"its outcome is {record.outcome}, and its name says otherwise")
    if record.items is not None and not record.items.file.startswith(f"{stem}."):
        raise CorruptRecord("malformed: items.file is not named after the record")


def parsed(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a file, every text and number in it checked.

    Raises ``CorruptRecord`` for anything else.
    """
    try:
        body = json.loads(content.decode(), parse_constant=_no_constant)
        _check_values(body)
    except CorruptRecord:
        raise
    except ValueError as error:
        raise CorruptRecord(str(error)) from error
    except RecursionError:
        raise CorruptRecord(f"it is nested deeper than {DEEPEST} levels") from None
    if not isinstance(body, dict):
        raise CorruptRecord("not a record: no JSON object")
    return body


def record_of(body: Mapping[str, Any]) -> Record:
    """Return the record of a checked object, of whatever version; its seal is not looked at.

    Raises ``CorruptRecord`` for one that is malformed, `LaterVersion` for one of a later version,
    `Misdeclared` for one that its study takes for another.
    """
    version = body.get("schema_version")
    if version == NESTED and not isinstance(version, bool | float):
        record = _nested(Fields(body))
    elif version == FLAT and not isinstance(version, bool | float):
        record = _flat(Fields(body))
    elif isinstance(version, int) and version > NESTED:
        what = f"a later version of benchsuite wrote it: schema_version {version}"
        raise LaterVersion(what, fix="upgrade benchsuite, or name another folder")
    else:
        raise CorruptRecord(f"malformed: schema_version is {version!r}")
    check_metrics(record.cell.study, record.value)
    return record


def _no_constant(text: str) -> Any:
    raise CorruptRecord(f"malformed: {text} is no number of JSON")


def _check_values(body: Any) -> None:
    waiting = [(body, 0)]
    while waiting:
        value, depth = waiting.pop()
        kind = type(value)
        if kind is str:
            if not value.isascii():
                _check_text(value)
        elif kind is float:
            if not math.isfinite(value):
                raise CorruptRecord("malformed: a number beyond a double's range")
        elif kind is int:
            if abs(value) > LARGEST:
                raise CorruptRecord("malformed: a number beyond a double's range")
        elif kind is dict or kind is list:
            if depth > DEEPEST + 4:
                raise CorruptRecord(f"malformed: nested deeper than {DEEPEST} levels")
            if kind is dict:
                for key in value:
                    _check_text(key)
            inside = value.values() if kind is dict else value
            waiting += [(one, depth + 1) for one in inside]


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CorruptRecord("malformed: a text holds half of a surrogate pair") from None


# --- version 2


def _nested(top: Fields) -> Record:
    source, times = top.part("source"), top.part("times")
    return Record(
        cell=read_cell(top.part("cell")),
        fingerprint=read_fingerprint(top.part("fingerprint")),
        environment=top.table("environment"),
        source=_source(source, source.text("hub_id")),
        times=Times(
            spent=times.numbers("spent"),
            reported=times.numbers("reported"),
            making=times.maybe("making", Fields.number),
            contended=times.flag("contended"),
        ),
        values=top.table("values"),
        clocked=top.table("clocked"),
        failure=_failure(top, "failure"),
        **_ending(top),
    )


def _ending(top: Fields) -> dict[str, Any]:
    """Return the fields that are the same in both versions."""
    return {
        "items": _items(top.part("items")) if "items" in top else None,
        "outcome": top.text("outcome"),
        "started_at": top.text("started_at"),
        "peak_memory_bytes": top.maybe("peak_memory_bytes", Fields.whole),
        "results_sha256": top.maybe("results_sha256", Fields.text) or "",
        "sha256": top.maybe(SEAL, Fields.text) or "",
    }


def read_cell(part: Fields) -> CellFacts:
    """Return which cell an object names, its names safe as names of files."""
    axes = part.table("axes")
    inside = Fields(axes, "cell.axes")
    inside.file_name("model")
    inside.whole("seed")
    for name in axes:
        if name != "seed":
            inside.text(name)
    facts = CellFacts(
        study=part.file_name("study"),
        id=part.file_name("id"),
        name=part.file_name("name"),
        axes=axes,
        parameters=part.table("parameters"),
        changed=part.table("changed") if "changed" in part else {},
    )
    return _renamed(facts)


def _renamed(facts: CellFacts) -> CellFacts:
    """Return a cell with the names that its study's parameters have today."""
    declared = study(facts.study) if facts.study in names() else None
    if declared is None or not declared.renamed.keys() & facts.parameters.keys():
        return facts
    name = facts.name
    for old, new in declared.renamed.items():
        name = name.replace(f"__{old}-", f"__{new}-")
    tables = (declared.under_todays_names(t) for t in (facts.parameters, facts.changed))
    return CellFacts(facts.study, facts.id, name, facts.axes, *tables)


def read_fingerprint(part: Fields) -> Fingerprint:
    """Return the fingerprint of an object, whose value must be that of its digests."""
    found = Fingerprint(*(part.text(name) for name in ("inputs", "code", "environment")))
    if found.value != part.file_name("value"):
        raise CorruptRecord("malformed: fingerprint.value is not that of its digests")
    return found


def _source(part: Fields, hub_id: str) -> Source:
    return Source(
        weights=part.maybe("weights", Fields.text),
        stand_in=part.maybe("stand_in", Fields.text),
        weights_digest=part.maybe("weights_digest", Fields.text),
        hub_id=hub_id,
    )


def _items(part: Fields) -> Items:
    columns, sha256 = part.texts("columns"), part.maybe("sha256", Fields.text)
    return Items(part.file_name("file"), columns, sha256)


def _failure(top: Fields, name: str) -> Failure | None:
    outcome = top.text("outcome")
    if outcome not in OUTCOMES:
        raise CorruptRecord(f"malformed: outcome is {outcome!r}")
    if outcome == "passed":
        return None
    part = top.part(name)
    return Failure(part.text("message"), part.text("stage"))


# --- version 1


def _flat(top: Fields) -> Record:
    was = Fields(top.found.get("cell"), "cell")
    known = {**was.table("axes"), **was.table("parameters")}
    times = _flat_times(top)
    named = {f"{stage}{TIME}" for stage in times.all()}
    # A value once could have a parameter's name, and took its place.
    left = {
        name: value
        for name, value in top.found.items()
        if name not in RESERVED | named and not (name in known and known[name] == value)
    }
    cell = read_cell(was)
    clocked = set(filter(_CLOCKED.fullmatch, left))
    return Record(
        cell=cell,
        fingerprint=read_fingerprint(top.part("fingerprint")),
        environment=top.table("environment"),
        source=_source(top, top.text("model")),
        times=times,
        values={k: v for k, v in left.items() if k not in clocked},
        clocked={k: v for k, v in left.items() if k in clocked},
        failure=_failure(top, "error"),
        **_ending(top),
    )


def _flat_times(top: Fields) -> Times:
    """Return the times; a crashed cell's record has none."""
    timings = dict(top.table("timings")) if "timings" in top else {}
    contended = timings.pop("contended", False)
    timings.pop("total", None)
    spent = Fields({"timings": timings}).numbers("timings")
    told = {
        name.removesuffix(TIME): top.number(name)
        for name in top.found
        if name.endswith(TIME) and name not in RESERVED and name in top
    }
    return Times(
        spent=spent,
        reported={stage: s for stage, s in told.items() if spent.get(stage) != s},
        making=top.maybe(f"total{TIME}", Fields.number),
        contended=Fields({"contended": contended}, "timings").flag("contended"),
    )


# --- what a study needs


def check_metrics(of_study: str, value: Callable[[str], Any]) -> None:
    """Raise `Misdeclared` unless what a study compares is a number, or None: ``value(name)``.

    A text is no truth either: every text but the empty one would count as true, "failed" too.
    """
    if of_study not in names():
        return
    declared = study(of_study)
    compared = {c.metric for c in declared.claims if c.kind in _NUMERIC_CLAIMS}
    tables = {metric.name for metric in declared.metrics if metric.parts}
    for name in sorted(compared | {metric.name for metric in declared.metrics}):
        _check_number(of_study, name, value(name), is_table=name in tables)


def _check_number(of_study: str, name: str, value: Any, *, is_table: bool) -> None:
    if is_table and isinstance(value, dict):
        for part, inside in value.items():
            _check_number(of_study, f"{name}.{part}", inside, is_table=False)
    elif value is not None and (is_table or not isinstance(value, int | float)):
        wanted = "an object of numbers" if is_table else "a number, true or false"
        raise Misdeclared(
            f"{name} is {kind_of(value)}, and as a metric of study {of_study} it must be {wanted}",
            fix=f"take {name} out of the study's metrics and claims, where columns say what it is, "
            "or record a number under that name",
        )
