"""Published WikiText-2 perplexities at 2,048 tokens of context, with their sources.

``P`` was read in primary code or text, ``S`` is known from a secondary source only. A ``P`` value
stands beside a measured one where weights and protocol match; everything else is context and
never a bar to pass.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchsuite.reporting.groups import Group


@dataclass(frozen=True)
class Published:
    """One published number: its model (catalogue name), configuration and source.

    ``parameters`` are what the cell's parameters must be for the number to be comparable;
    ``method`` is the cell's method, or None for a method that no cell of the grid runs.
    """

    model: str
    label: str
    value: float
    source: str
    status: str
    method: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


PROTOCOL = {"seq_len": 2048, "evaluation_corpus": "wikitext2", "evaluation_tokens": 0}
W4G128 = {**PROTOCOL, "quant_bits": 4, "group_size": 128}

PUBLISHED = (
    Published("llama2_7b", "FP16", 5.47, "SmoothQuant README; QuaRot", "P", "fp16", PROTOCOL),
    Published("llama2_7b", "RTN W4 g128", 5.73, "AWQ paper", "S", "rtn", W4G128),
    Published("llama2_7b", "GPTQ W4 g128", 5.69, "AWQ paper", "S", "gptq", W4G128),
    Published("llama2_7b", "GPTQ-R W4 g128", 5.63, "AWQ paper", "S"),
    Published(
        "llama2_7b",
        "GPTQ asymmetric W4 g128",
        5.623,
        "LightCompress align.md",
        "P",
        "gptq",
        {**W4G128, "sym": False},
    ),
    Published("llama2_7b", "AWQ W4 g128", 5.60, "AWQ paper", "S", "awq", W4G128),
    Published("llama2_7b", "SmoothQuant W8A8, a = .85", 5.515, "SmoothQuant README", "P"),
    Published("llama2_7b", "QuaRot W4A4KV4 per channel", 6.10, "QuaRot paper", "P"),
    Published("llama2_7b", "QuaRot W4A4KV4 g128", 5.93, "QuaRot paper", "P"),
    Published("llama2_7b", "QuaRot W4A4KV4 g64", 5.88, "QuaRot paper", "P"),
    Published("llama2_13b", "FP16", 4.88, "QuaRot paper", "P", "fp16", PROTOCOL),
    Published("llama2_13b", "QuaRot W4A4KV4", 5.40, "QuaRot paper", "P"),
    Published("llama2_13b", "RTN W4 g128", 4.98, "AWQ paper", "S", "rtn", W4G128),
    Published("llama2_13b", "GPTQ W4 g128", 4.98, "AWQ paper", "S", "gptq", W4G128),
    Published("llama2_13b", "GPTQ-R W4 g128", 4.99, "AWQ paper", "S"),
    Published("llama2_13b", "AWQ W4 g128", 4.97, "AWQ paper", "S", "awq", W4G128),
    Published("opt_6_7b", "FP16", 10.86, "GPTQ paper", "S", "fp16", PROTOCOL),
    Published("opt_6_7b", "GPTQ 4-bit per channel", 11.39, "GPTQ paper", "S"),
    Published("opt_6_7b", "RTN 4-bit per channel", 12.10, "GPTQ paper", "S"),
    Published("mistral_7b", "FP16", 5.253, "SmoothQuant README", "P", "fp16", PROTOCOL),
    Published("mistral_7b", "SmoothQuant W8A8", 5.277, "SmoothQuant README", "P"),
)


def beside(group: Group) -> list[dict[str, Any]]:
    """Return the published values for a group, each marked ``comparable`` or context.

    Comparable needs: status P, real weights from the hub, the cell's method and every parameter
    of the protocol. ``why`` says what keeps a value from it.
    """
    if group.kind != "real" or not _has_protocol(group):
        return []
    found = []
    for row in PUBLISHED:
        if row.model == group.model:
            why = _obstacle(row, group)
            found.append({**asdict(row), "comparable": not why, "why": why})
    return found


def _has_protocol(group: Group) -> bool:
    """Say whether the group measures the published quantity at all: other text, other number."""
    return all(group.cells[0].parameters.get(k) == v for k, v in PROTOCOL.items())


def _obstacle(row: Published, group: Group) -> str:
    if row.status != "P":
        return "known from a secondary source only"
    weights = {record.source.weights for record in group.records.values()}
    if weights != {"hub"}:
        return "not the hub's weights"
    if row.method not in group.methods:
        return "another method"
    parameters = group.cells[0].parameters
    other = [k for k, v in row.parameters.items() if parameters.get(k) != v]
    return f"other {', '.join(other)}" if other else ""
