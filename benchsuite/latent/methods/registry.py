"""Names to methods. An ablation inherits what a configuration file says of ``kava``."""

from benchsuite.errors import unknown_name
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
    """Return the configuration that a method is trained and decoded with."""
    return config.for_method("kava" if name in kava.ABLATIONS else name, method(name).own)
