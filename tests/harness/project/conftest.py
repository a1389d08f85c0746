"""A user's own project: five studies of the shapes that the real ones have, without forking."""

from benchsuite.catalog import ModelEntry, register
from benchsuite.study import Study, identical, lower
from benchsuite.study import register as register_study

pytest_plugins = ["benchsuite.fixtures.record"]

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
for name in ("toy_a", "toy_b"):
    register(ModelEntry(name, f"toys/{name}", "llama", SHAPE, "float32", embedded=True))

MODELS = ("toy_a", "toy_b")


def toy(name, methods, claims=(), **parameters):
    """Register a study over both toy models and three seeds."""
    axes = {"model": MODELS, "method": methods}
    register_study(
        Study(name, f"{name}?", axes, (1, 2, 3), parameters, reads={"model": ""}, claims=claims)
    )


toy(
    "select_and_quantize",
    ("first", "drawn"),
    (identical("weights_sha256", "first"), lower("perplexity", "drawn", than="first")),
    n_samples=8,
)
toy("generate_and_score", ("nll", "entropy"), n_questions=16)
toy("engine_process", ("plain", "noisy"), repetitions=3)
toy("training", ("direct", "latent"), steps=20)
toy("trained_evaluation", ("direct", "latent"), steps=20)
toy("two_models", ("same", "other"))
