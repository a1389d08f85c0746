"""Memory that runs out in a training or an evaluation: which setting to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchsuite.errors import BenchsuiteError, out_of_memory
from benchsuite.latent.config import Config


@contextmanager
def in_training(config: Config) -> Iterator[None]:
    """Turn memory that runs out in a step into the settings that keep the step as it is."""
    how = config.training
    size, steps = how.per_device_train_batch_size, how.gradient_accumulation_steps
    smaller = max(1, size // 2)
    fix = (
        f"lower per_device_train_batch_size to {smaller} and raise gradient_accumulation_steps "
        f"from {steps} to {steps * size // smaller}: the step stays the same"
    )
    with _told(f"training {config.name}", "training.per_device_train_batch_size", size, fix):
        yield


@contextmanager
def in_evaluation(config: Config) -> Iterator[None]:
    """Turn memory that runs out in decoding or a held-out loss into the setting to lower."""
    size = config.evaluation.batch_size
    fix = f"lower it to {size // 2}"
    with _told(f"evaluating {config.name}", "evaluation.batch_size", size, fix):
        yield


@contextmanager
def _told(what: str, key: str, size: int, fix: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise BenchsuiteError(
            f"out of memory in {what} with batches of {size}",
            f"{key} = {size}",
            fix if size > 1 else "choose a smaller model, or a device with more memory",
        ) from error
