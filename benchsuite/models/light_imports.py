"""transformers without the libraries that its rarest features need, until those are used.

Some of transformers' modules import a whole library at their head for names that a cell seldom
calls: a cache quantized by HQQ, torchao's checkpoints, the curve that tunes assisted generation,
how detected objects are matched. With hqq and torchao that is over half of the import of a model:
hqq imports torch's compilers, scikit-learn pandas and scipy. Here a name stands for what it would
be: whoever calls it, takes an attribute of it or asks it about an instance loads the library. When
the library is loaded, by whomever, transformers' modules get what they would have had. Nothing
else is changed. Stand-ins for whole modules are there while ``import_transformers`` runs, and gone
when it returns.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# What is imported late, and the modules of transformers that import it at their head.
LATE = {
    "hqq.core.quantize": ("transformers.cache_utils", "transformers.quantizers.quantizer_hqq"),
    "torchao.prototype.safetensors.safetensors_support": (
        "transformers.quantizers.quantizer_torchao",
    ),
    "sklearn.metrics": ("transformers.generation.candidate_generator",),
    "scipy.optimize": tuple(
        f"transformers.loss.loss_{name}"
        for name in (
            "for_object_detection",
            "rt_detr",
            "deformable_detr",
            "rf_detr",
            "grounding_dino",
            "lw_detr",
        )
    ),
}
_lock = threading.RLock()


def import_transformers() -> None:
    """Import what every model class of transformers needs, and put off what ``LATE`` names.

    Does nothing about a library that is loaded or not installed, nor where transformers' module is
    loaded already.
    """
    with _lock:
        stands = {name: _StandIn(name) for name in LATE if _can_wait(name)}
        sys.modules.update(stands)
        try:
            for user in [user for users in LATE.values() for user in users]:
                # Another version of transformers may have moved it: then nothing is put off there.
                with contextlib.suppress(ModuleNotFoundError):
                    importlib.import_module(user)
        finally:
            for name in stands:
                del sys.modules[name]
            sys.meta_path[:0] = [_Settler(name, stand.handed) for name, stand in stands.items()]


def _can_wait(name: str) -> bool:
    package = name.partition(".")[0]
    loaded = {name, *LATE[name]} & set(sys.modules)
    return not loaded and importlib.util.find_spec(package) is not None


class _Late:
    """A name of a library that is not loaded: any use of it loads the library."""

    __slots__ = ("_module", "_name", "_set")

    def __init__(self, module: str, name: str) -> None:
        for slot, value in zip(self.__slots__, (module, name, {}), strict=True):
            object.__setattr__(self, slot, value)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return _real(self)(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # transformers gives a class of hqq a property: done when there is the class.
        self._set[name] = value

    def __instancecheck__(self, value: Any) -> bool:
        return self._module in sys.modules and isinstance(value, _real(self))

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return _named, (self._module, self._name)


def _real(late: _Late) -> Any:
    return _named(late._module, late._name)


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


class _StandIn(ModuleType):
    """A module that hands out late names, and remembers them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.handed: dict[str, _Late] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.handed.setdefault(name, _Late(self.__name__, name))


class _Settler:
    """Finds a late library once, as the other finders do, and hands its names on."""

    def __init__(self, name: str, handed: dict[str, _Late]) -> None:
        self.name, self.handed = name, handed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.handed)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads a late library by its own loader, and then settles what was put off."""

    def __init__(self, loader: Any, handed: dict[str, _Late]) -> None:
        self.loader, self.handed = loader, handed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        for name, late in self.handed.items():
            real = getattr(module, name)
            for attribute, value in late._set.items():
                setattr(real, attribute, value)
            for user in sys.modules.keys() & set(LATE[module.__name__]):
                for key, held in list(vars(sys.modules[user]).items()):
                    if held is late:
                        setattr(sys.modules[user], key, real)
