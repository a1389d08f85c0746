"""When may a stored record stand for a cell? Three digests: inputs, code, environment."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a measurement; equal ``value`` means that a record may be reused."""

    inputs: str
    code: str
    environment: str

    @property
    def value(self) -> str:
        """The digest of the three: the record's file name."""
        return digest([self.inputs, self.code, self.environment])[:40]

    def as_dict(self) -> dict[str, str]:
        """Return the record's ``fingerprint`` object."""
        return {
            "value": self.value,
            "inputs": self.inputs,
            "code": self.code,
            "environment": self.environment,
        }

    def differs_from(self, other: Mapping[str, str]) -> list[str]:
        """Name the digests in which a stored fingerprint differs from this one."""
        mine = self.as_dict()
        return [k for k in ("inputs", "code", "environment") if mine[k] != other.get(k)]


def digest(value: Any) -> str:
    """Return the sha256 of what a value is once JSON has kept it: its keys are texts."""
    read_back = json.loads(json.dumps(value, default=str))
    text = json.dumps(read_back, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
