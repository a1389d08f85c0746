"""Every hyper-parameter of a training, read from YAML or TOML.

The keys under ``training`` are the KaVa guide's (and transformers' own). ``methods`` holds what
a baseline changes: the same sections, for one method.
"""

import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from benchsuite.errors import UsageError, unknown_name

FOLDER = Path(__file__).with_name("configs")
MARKERS = ("The answer is:", "####")


@dataclass(frozen=True)
class Data:
    """What is trained on: a catalogued task with steps, and what announces its answer."""

    task: str = "gsm8k_aug"
    marker: str = "The answer is:"
    max_examples: int = 0  # 0: all
    max_tokens: int = 0  # leave out rows whose question, steps and answer have more; 0: none
    worked_examples: int = 0  # training problems that are shown before each question that is asked
    digit_answers: bool = False  # leave out rows whose answer does not begin with a digit


@dataclass(frozen=True)
class Latent:
    """How a method thinks: ``n_latents`` M, ``passes`` T of Jacobi, Coconut's and iCoT's stages."""

    n_latents: int = 24
    passes: int = 3
    projection: bool = True
    projection_dropout: float = 0.0
    c_thought: int = 2
    max_latent_stage: int = 3
    epochs_per_stage: float = 3.0  # Coconut: of num_train_epochs, which max_steps only compresses
    removed_at: float = 0.7  # iCoT: the part of training after which no step is left
    removal_smoothing: float = 4.0  # iCoT: lambda of the random extra tokens removed


@dataclass(frozen=True)
class Loss:
    """Weights of the parts, and KaVa's own: distance, layer normalisation, mix lambda, eviction."""

    teacher_weight: float = 1.0
    codi_weight: float = 10.0
    kv_weight: float = 1.0
    kv_distance: str = "smooth_l1"
    layer_std: bool = True
    importance_mix: float = 0.1
    eviction: str = "r_kv"
    step_weight: float = 0.0  # SIM-CoT: of the steps that an auxiliary decoder reads from latents


@dataclass(frozen=True)
class Lora:
    """LoRA on all linear layers of the blocks; ``r`` 0 trains every weight instead."""

    r: int = 128
    alpha: int = 32
    dropout: float = 0.1


@dataclass(frozen=True)
class Training:
    """The optimizer's settings: AdamW, cosine to zero after a linear warm-up."""

    learning_rate: float = 8e-4
    weight_decay: float = 0.1
    num_train_epochs: float = 10
    max_steps: int = 0  # above 0: so many optimizer steps, whatever the epochs
    per_device_train_batch_size: int = 32
    gradient_accumulation_steps: int = 4
    max_grad_norm: float = 2.0
    warmup_ratio: float = 0.03
    bf16: bool = True
    torch_compile: bool = False  # fuse what lies between the attentions: minutes, once
    cuda_graphs: bool = False  # one CUDA GPU: launch a micro-batch at once; twice the memory
    save_steps: int = 500
    start_from: str = ""  # a method whose trained weights this one starts from
    wandb: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Greedy decoding."""

    batch_size: int = 64
    max_new_tokens: int = 256


_SECTIONS: Mapping[str, Any] = {
    "data": Data,
    "latent": Latent,
    "loss": Loss,
    "lora": Lora,
    "training": Training,
    "evaluation": Evaluation,
}
_ALLOWED = {
    ("data", "marker"): MARKERS,
    ("loss", "kv_distance"): ("l1", "smooth_l1", "mse"),
    ("loss", "eviction"): ("r_kv", "crop"),
}
# Numbers are finite and at least 0; these are above it, and those at most 1.
_ABOVE_ZERO = (
    *("latent.n_latents", "latent.c_thought", "latent.max_latent_stage"),
    "latent.epochs_per_stage",
    *("latent.removed_at", "latent.removal_smoothing", "lora.alpha"),
    *("training.per_device_train_batch_size", "training.gradient_accumulation_steps"),
    *("training.num_train_epochs", "training.max_grad_norm", "training.save_steps"),
    *("evaluation.batch_size", "evaluation.max_new_tokens"),
)
_AT_MOST_ONE = (
    *("latent.removed_at", "latent.projection_dropout", "loss.importance_mix"),
    *("lora.dropout", "training.warmup_ratio"),
)


@dataclass(frozen=True)
class Config:
    """One configuration: ``name`` as the reports call it, the model, and the sections."""

    name: str
    model: str
    data: Data = field(default_factory=Data)
    latent: Latent = field(default_factory=Latent)
    loss: Loss = field(default_factory=Loss)
    lora: Lora = field(default_factory=Lora)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    methods: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, sections: Mapping[str, Any], where: str = "") -> "Config":
        """Return the configuration with some keys of some sections replaced."""
        new: dict[str, Any] = {}
        for name, values in sections.items():
            if name not in _SECTIONS:
                raise unknown_name(f"section{where}", name, _SECTIONS)
            if not isinstance(values, Mapping):
                raise _no_section(name, values, where)
            new[name] = _section(getattr(self, name), name, values, where)
        return replace(self, **new)

    def for_method(self, name: str, own: Mapping[str, Any] | None = None) -> "Config":
        """Return what holds for a method: the file's changes for it, then the method's ``own``."""
        changed = self.changed(self.methods.get(name, {}), f" under methods.{name}")
        return replace(changed.changed(own or {}), methods={})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, as it is kept in records and checkpoints."""
        return asdict(self)


def located(name: str | Path) -> Path:
    """Return the file of a configuration: a user's own, or a shipped one, which has no ending."""
    file = Path(name)
    if file.suffix:
        return file
    shipped = {path.stem: path for path in FOLDER.glob("*.yaml")}
    if str(name) not in shipped:
        raise unknown_name("configuration", str(name), shipped)
    return shipped[str(name)]


def load_config(path: str | Path) -> Config:
    """Read a configuration from a ``.yaml``, ``.yml`` or ``.toml`` file.

    A shipped one is named without its ending (``llama1b_aug``). Unknown keys, values of a wrong
    type and numbers out of range are usage errors naming the file and the key.
    """
    file = located(path)
    content = _parsed(file)
    where = f" in {file}"
    methods = content.pop("methods", {})
    if not isinstance(methods, Mapping):
        raise _no_section("methods", methods, where)
    name, model = content.pop("name", file.stem), content.pop("model", None)
    if not isinstance(model, str):
        raise UsageError(f"no model is named{where}", fix="add model: and a catalogue name")
    config = Config(str(name), model, methods=methods).changed(content, where)
    for method, changes in methods.items():
        if not isinstance(changes, Mapping):
            raise _no_section(f"methods.{method}", changes, where)
        config.changed(changes, f" under methods.{method}{where}")
    return config


def _parsed(file: Path) -> dict[str, Any]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        found = tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", fix="check the path") from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{file} cannot be parsed: {said}", fix="mend that place") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no sections", fix="give name, model, training, ...")
    return {str(key): value for key, value in found.items()}


def _no_section(name: str, value: Any, where: str) -> UsageError:
    return UsageError(f"{name} is {value!r}{where}", fix=f"{name} is a section: give it keys")


def _section(current: Any, name: str, values: Mapping[str, Any], where: str) -> Any:
    known = {f.name: f.type for f in fields(current)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"key of {name}{where}", str(key), known)
        checked[key] = _in_range(
            _typed(value, known[key], f"{name}.{key}", where), f"{name}.{key}", where
        )
        allowed = _ALLOWED.get((name, key))
        if allowed and value not in allowed:
            raise UsageError(
                f"{name}.{key} is {value!r}{where}", fix=f"it is one of {', '.join(allowed)}"
            )
    return replace(current, **checked)


def _typed(value: Any, kind: Any, key: str, where: str) -> Any:
    """Return a value of the declared type; YAML reads 8e-4 as a text, which is a number to us."""
    wanted = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in wanted and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif isinstance(value, bool) == (bool in wanted) and isinstance(value, wanted):
        return value
    raise UsageError(
        f"{key} is {value!r}{where}", fix=f"it is a {' or '.join(k.__name__ for k in wanted)}"
    )


def _in_range(value: Any, key: str, where: str) -> Any:
    """Return a value of a key, if it is no number out of the range that the key has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    most = 1 if key in _AT_MOST_ONE else math.inf
    above = value > 0 if key in _ABOVE_ZERO else value >= 0
    if above and value <= most and math.isfinite(value):
        return value
    least = "above 0" if key in _ABOVE_ZERO else "at least 0"
    raise UsageError(
        f"{key} is {value!r}{where}", fix=f"it is {least}{' and at most 1' if most == 1 else ''}"
    )
