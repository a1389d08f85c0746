"""Which cells are of one setting, though not every method has every parameter.

A parameter may belong to few methods: the scoring model to one way of choosing text. A cell of
another method is what it is whatever that parameter is set to, and stands in each of its settings.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchsuite.records.record import Record

Signature = Mapping[str, str]


def signature(
    parameters: Collection[str], changed: Mapping[str, Any], additions: Collection[str] = ()
) -> dict[str, str]:
    """Return what a cell's parameters are set to: name -> JSON, nothing for the default.

    ``additions`` measure more and are no part of a setting.
    """
    return {
        name: json.dumps(changed[name], sort_keys=True, default=str) if name in changed else ""
        for name in parameters
        if name not in additions
    }


def together(signatures: Sequence[Signature]) -> list[list[int]]:
    """Return the settings, each as the places of all signatures that it may have, in order.

    Two signatures may be of one setting if they agree in every parameter that both have. A setting
    that another one holds whole is none of its own.
    """
    settings: list[list[int]] = []
    for place, own in enumerate(signatures):
        grown = [
            [*(i for i in setting if _agree(signatures[i], own)), place] for setting in settings
        ]
        found = [*settings, *grown, [place]]
        sets = [set(setting) for setting in found]
        settings = [
            setting
            for i, setting in enumerate(found)
            if not any(sets[i] < other for other in sets) and sets[i] not in sets[:i]
        ]
    return sorted(settings)


def by_setting(records: Iterable[Record]) -> list[list[Record]]:
    """Return the records of each setting, in their order; see ``together``."""
    kinds: dict[str, list[tuple[int, Record]]] = {}
    signs: dict[str, Signature] = {}
    for place, record in enumerate(records):
        sign = signature(record.cell.parameters, record.cell.changed)
        kind = json.dumps(sign, sort_keys=True)
        signs[kind] = sign
        kinds.setdefault(kind, []).append((place, record))
    members = list(kinds.values())
    found = []
    for setting in together(list(signs.values())):
        mine = sorted((pair for i in setting for pair in members[i]), key=lambda pair: pair[0])
        found.append([record for _, record in mine])
    return found


def changed_in(records: Iterable[Record]) -> dict[str, Any]:
    """Return the parameters of one setting that are not the study's defaults."""
    return {k: v for record in records for k, v in sorted(record.cell.changed.items())}


def _agree(one: Signature, other: Signature) -> bool:
    return all(other[name] == value for name, value in one.items() if name in other)
