"""What a study's source document says: its words for the methods, and published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """One published number: its model (catalogue name), configuration and source.

    ``status`` is ``P`` for what was read in primary code or text, ``S`` for what is known from a
    secondary source only. ``protocol`` are the parameters without which a cell measures another
    quantity; the number is shown beside no such cell. ``parameters`` are what else must be equal
    for the number to be comparable. ``method`` is the cell's method, None where no cell runs it.
    """

    model: str
    label: str
    value: float
    source: str
    status: str
    method: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """The words and numbers that the report takes from a study's source document.

    ``methods`` maps a method to its name in running text. ``conditions`` says under what a result
    holds, with parameters in braces: ``"{quant_bits}-bit GPTQ"``. ``published`` are numbers of its
    ranking metric that others measured.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    conditions: str = ""
    published: Sequence[Published] = ()
