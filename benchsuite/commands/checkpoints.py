"""``benchsuite verify``: a quantized checkpoint as it lies on a disk."""

from collections.abc import Sequence

from benchsuite.catalog import Sources
from benchsuite.commands.parser import Parser


def verify(arguments: Sequence[str]) -> int:
    """Load a quantized checkpoint and try it; status 1 if it does not work."""
    parser = Parser(verify)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a folder with its config.json, or a GGUF"
    )
    help = "let the own Python code of what is named here run (auto_map in its config.json)"
    parser.add_argument("--trust-remote-code", dest="trust", action="store_true", help=help)
    chosen = parser.parse_args(arguments)
    from benchsuite.evaluation import checkpoints

    folder = chosen.checkpoint
    sources = Sources(trusted=frozenset([folder]) if chosen.trust else frozenset())
    found = checkpoints.verify(checkpoints.open_model(folder, sources))
    ratio = found.original_bytes / found.size_bytes
    if found.types:
        print(f"tensors            {', '.join(f'{n} {kind}' for kind, n in found.types.items())}")
    else:
        print(f"quantized layers   {found.n_layers}")
    print(f"size               {found.size_bytes / 1e6:.2f} MB, compression {ratio:.2f}")
    if found.perplexity is not None:
        print(f"perplexity         {found.perplexity:.4g} on the embedded text")
    print(f"generates          {' '.join(found.text.split())[:60]!r}")
    for fault in found.faults:
        print(f"fault              {fault}")
    print("verified" if not found.faults else "not verified")
    return int(bool(found.faults))
