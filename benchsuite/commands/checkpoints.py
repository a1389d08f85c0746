"""``benchsuite verify`` and ``benchsuite compare``: quantized checkpoints as they lie on a disk."""

from collections.abc import Sequence

from benchsuite.errors import UsageError


def verify(arguments: Sequence[str]) -> int:
    """Load a quantized checkpoint and try it: verify CHECKPOINT; status 1 if it does not work."""
    from benchsuite.evaluation import checkpoints

    if len(arguments) != 1:
        raise UsageError("verify takes one folder", fix="benchsuite verify CHECKPOINT")
    found = checkpoints.verify(checkpoints.open_model(arguments[0]))
    ratio = found.original_bytes / found.size_bytes
    print(f"quantized layers   {found.n_layers}")
    print(f"size               {found.size_bytes / 1e6:.2f} MB, compression {ratio:.2f}")
    if found.perplexity is not None:
        print(f"perplexity         {found.perplexity:.4g} on the embedded text")
    print(f"generates          {' '.join(found.text.split())[:60]!r}")
    for fault in found.faults:
        print(f"fault              {fault}")
    print("verified" if not found.faults else "not verified")
    return int(bool(found.faults))


def compare(arguments: Sequence[str]) -> int:
    """Compare two checkpoints, or one with its baseline: compare A [B]."""
    from benchsuite.evaluation import checkpoints

    if len(arguments) not in (1, 2):
        raise UsageError("compare takes one or two models", fix="benchsuite compare A [B]")
    first = checkpoints.open_model(arguments[-1])
    if len(arguments) == 1:
        second, first = first, checkpoints.open_model(checkpoints.baseline_of(first))
    else:
        second, first = first, checkpoints.open_model(arguments[0])
    found = checkpoints.compare(first, second)
    rows = zip((first.name, second.name), found.size_bytes, found.perplexity, strict=True)
    for letter, (name, size, value) in zip("AB", rows, strict=True):
        print(f"{letter}  {size / 1e6:10.2f} MB  perplexity {value:9.4f}  {name}")
    print(f"KL(A || B)          {found.kl:.5f} nats per token")
    print(f"same prediction     {found.agreement:.2%} of positions")
    print(f"same greedy tokens  {found.same_tokens:.1f} of {checkpoints.NEW_TOKENS}")
    print("weights, ||B - A|| / ||A|| (AWQ and SmoothQuant rescale columns, QuaRot rotates):")
    for name, off in sorted(found.layers.items(), key=lambda item: -item[1]):
        print(f"  {off:8.4f}  {name}")
    return 0
