"""Lazy exports for the rooms' ``__init__`` files, so that collection never imports torch."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, exports: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Return ``(__getattr__, __all__)`` for a package whose names load on first use (PEP 562).

    ``exports`` maps each public name to the submodule that defines it. A name equal to its
    submodule exports the module itself.
    """

    def __getattr__(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{exports[name]}")
        value = module if name == exports[name] else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__, sorted(exports)
