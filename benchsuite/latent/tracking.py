"""One Weights & Biases run per training, where ``training.wandb`` asks for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.latent.config import Config

Track = Callable[[Mapping[str, float], int], None]


@contextmanager
def tracker(config: Config, method: str, seed: int, *, on: bool = True) -> Iterator[Track | None]:
    """Yield what logs a step's losses to a run ``{model}_{dataset}_seed{seed}``, or None.

    ``on`` is False in all but the first of several processes. The runs of one method are a group.
    Raises ``CellCannotRun`` where wandb is not installed, ``BenchsuiteError`` where it begins no
    run. What ends with an error is a failed run there.
    """
    if not (on and config.training.wandb):
        yield None
        return
    try:
        import wandb
    except ImportError:
        raise CellCannotRun(
            "training.wandb is set and wandb is not installed",
            fix="install it with pip install wandb, or set training.wandb to false",
        ) from None
    try:
        run = wandb.init(
            name=f"{config.model}_{config.data.task}_seed{seed}",
            group=method,
            config=config.as_dict() | {"method": method, "seed": seed},
        )
    except Exception as error:
        raise BenchsuiteError(
            f"training.wandb is set and Weights & Biases began no run: {str(error).rstrip('.')}",
            fix="run wandb login, or export WANDB_MODE=offline, or set training.wandb to false",
        ) from error
    try:
        yield lambda values, step: run.log(dict(values), step=step)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
