"""Names to methods. An ablation inherits what a configuration file says of ``kava``."""

from benchsuite.errors import UsageError, unknown_name
from benchsuite.latent.config import Config
from benchsuite.latent.methods import coconut, codi, full_cot, icot, kava, no_cot, pccot
from benchsuite.latent.methods.base import Method

METHODS: dict[str, Method] = {
    "full_cot": full_cot.METHOD,
    "no_cot": no_cot.METHOD,
    "icot": icot.METHOD,
    "coconut": coconut.METHOD,
    "codi": codi.METHOD,
    "pccot": pccot.METHOD,
    "kava": kava.METHOD,
    **kava.ABLATIONS,
}


def method(name: str) -> Method:
    """Return a method by its name; an unknown one is a usage error naming the nearest."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def config_of(name: str, config: Config) -> Config:
    """Return the configuration that a method is trained and decoded with.

    Raises ``UsageError`` for an unknown method under ``methods`` or in ``training.start_from``, and
    for one that would start from itself.
    """
    named = [known for known in METHODS if known not in kava.ABLATIONS]
    for written in config.methods:
        if written not in named:
            raise unknown_name(f"method under methods of {config.name}", str(written), named)
    found = _own(name, config)
    line, before = [name], found.training.start_from
    while before:
        line.append(before)
        if before in line[:-1]:
            raise UsageError(
                f"training.start_from of {config.name} has no beginning: {' from '.join(line)}",
                fix="write start_from under methods, for the methods that start from another",
            )
        before = _own(before, config).training.start_from
    return found


def _own(name: str, config: Config) -> Config:
    return config.for_method("kava" if name in kava.ABLATIONS else name, method(name).own)
