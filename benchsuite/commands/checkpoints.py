"""``benchsuite verify`` and ``benchsuite compare``: quantized checkpoints as they lie on a disk."""

from collections.abc import Sequence

from benchsuite.catalog import Sources
from benchsuite.commands.parser import Parser


def verify(arguments: Sequence[str]) -> int:
    """Load a quantized checkpoint and try it; status 1 if it does not work."""
    parser = Parser(verify)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a folder with its config.json, or a GGUF"
    )
    _add_trust(parser)
    chosen = parser.parse_args(arguments)
    from benchsuite.evaluation import checkpoints

    folder = chosen.checkpoint
    found = checkpoints.verify(checkpoints.open_model(folder, _sources(chosen.trust, folder)))
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
    """Compare two checkpoints, or one with the model that it was made of.

    Sizes, perplexities, KL(A || B), equal predictions, and how far each layer's weights moved.
    """
    parser = Parser(compare)
    parser.add_argument("a", metavar="A", help="a checkpoint's folder, a GGUF, or a model's name")
    parser.add_argument(
        "b", metavar="B", nargs="?", help="another; without it A is compared with its original"
    )
    _add_trust(parser)
    chosen = parser.parse_args(arguments)
    from benchsuite.evaluation import checkpoints

    sources = _sources(chosen.trust, chosen.a, chosen.b)
    second = checkpoints.open_model(chosen.b or chosen.a, sources)
    original = chosen.a if chosen.b else checkpoints.baseline_of(second)
    first = checkpoints.open_model(original, sources)
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


def _add_trust(parser: Parser) -> None:
    help = "let the own Python code of what is named here run (auto_map in its config.json)"
    parser.add_argument("--trust-remote-code", dest="trust", action="store_true", help=help)


def _sources(trust: bool, *named: str | None) -> Sources:
    """Return sources that trust what the user named, and no model that a checkpoint names."""
    return Sources(trusted=frozenset(name for name in named if name) if trust else frozenset())
