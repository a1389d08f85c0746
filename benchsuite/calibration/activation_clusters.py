"""COLA (arXiv 2510.10618): sequences that are typical of clusters in the model's activations."""

import hashlib

import numpy as np
import torch

from benchsuite.calibration.clustering import MAX_ITER, N_INIT, kmeans
from benchsuite.calibration.pool import (
    Account,
    Arrays,
    CalibrationPool,
    Selection,
    capped,
)
from benchsuite.calibration.tokens import as_batch, chunks_at, joined_tokens, require_tokens
from benchsuite.models.progress import Progress

DIMENSIONS = 64
# The projection is part of the features, which all seeds share, so it has a seed of its own.
PROJECTION_SEED = 0


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    candidates_per_sample: int = 8,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Selection:
    """Return, for each of ``n_samples`` clusters, the candidate nearest its centre.

    Candidates are non-overlapping chunks of the joined documents, ``candidates_per_sample`` times
    as many as needed, the same ones for every seed. Their features are the token mean of each
    block's output, L2-normalised per block. Concatenated, these are projected to 64 dimensions by a
    fixed Gaussian matrix. ``seed`` drives k-means. Raises ``CorpusTooShort``.
    """
    account = Account(pool)
    tokens = joined_tokens(pool, account)
    require_tokens(len(tokens), n_samples * seq_len, f"{n_samples} x {seq_len}")
    every = np.arange(len(tokens) // seq_len)
    chosen = capped(every, n_samples * candidates_per_sample)
    candidates = chunks_at(tokens, (chosen * seq_len).tolist(), seq_len)
    rows = _activations(pool, account, candidates, batch_size, progress)
    centred = torch.from_numpy(rows - rows.mean(axis=0)).to(pool.device)
    clusters = kmeans(centred @ centred.T, n_samples, seed)
    nearest = [members[0] for members in clusters.nearest(n_samples, 1) if members]
    # Fewer distinct candidates than clusters leave some empty: take the next best of others.
    spare = [i for i in np.argsort(clusters.distances, kind="stable").tolist() if i not in nearest]
    picked = nearest + spare[: n_samples - len(nearest)]
    return account.close(
        as_batch(pool, candidates[picked]),
        sampler="activation_clusters",
        starts=(chosen[picked] * seq_len).tolist(),
        n_candidates=len(chosen),
        candidates_per_sample=candidates_per_sample,
        dimensions=DIMENSIONS,
        projection_seed=PROJECTION_SEED,
        n_init=N_INIT,
        max_iter=MAX_ITER,
        inertia=clusters.inertia,
        n_iter=clusters.n_iter,
        empty_clusters=n_samples - len(nearest),
    )


def _activations(
    pool: CalibrationPool,
    account: Account,
    candidates: np.ndarray,
    batch_size: int,
    progress: Progress | None,
) -> np.ndarray:
    """Return the projected features of the candidates, float64 ``[n, 64]``."""
    key = {
        "feature": "projected_activations",
        "model": pool.model_key,
        "candidates": hashlib.sha256(candidates.tobytes()).hexdigest(),
        "shape": list(candidates.shape),
        "dimensions": DIMENSIONS,
        "projection_seed": PROJECTION_SEED,
        "batch_size": batch_size,
    }

    def build() -> Arrays:
        model = pool.causal_lm
        rows = []
        for at in range(0, len(candidates), batch_size):
            ids = torch.from_numpy(candidates[at : at + batch_size])
            rows.append(projected(block_means(model, ids)).numpy())
            if progress:
                progress("activations", min(at + batch_size, len(candidates)), len(candidates))
        return {"rows": np.concatenate(rows)}

    return account.fetch(key, build)["rows"]


@torch.inference_mode()
def block_means(model: torch.nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return each block's output averaged over tokens, L2-normalised, fp64 ``[B, hidden]`` on CPU.

    ``ids`` is int64 ``[B, T]``. The embedding is left out; the last output is after the norm.
    """
    device = next(model.parameters()).device
    # The head is not needed: its logits would be the largest tensor by far.
    decoder = getattr(model, "base_model", model)
    states = decoder(
        input_ids=ids.to(device), output_hidden_states=True, use_cache=False
    ).hidden_states
    means = [state.float().mean(dim=1).double().cpu() for state in states[1:]]
    return [torch.nn.functional.normalize(mean, dim=-1) for mean in means]


def projected(means: list[torch.Tensor]) -> torch.Tensor:
    """Return the concatenation of ``[B, hidden]`` parts times a Gaussian matrix, fp64 ``[B, 64]``.

    The matrix is drawn part by part, so that it is never whole in memory: a large model's has
    millions of entries.
    """
    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    total = torch.zeros(len(means[0]), DIMENSIONS, dtype=torch.float64)
    for mean in means:
        matrix = torch.randn(mean.shape[1], DIMENSIONS, generator=generator, dtype=torch.float64)
        total += mean @ matrix / DIMENSIONS**0.5
    return total
