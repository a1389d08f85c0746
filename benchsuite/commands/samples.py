"""What ``compare --samples`` and ``gate --samples`` do: judge two evaluations that are done."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError

if TYPE_CHECKING:
    from benchsuite.comparing.verdict import Verdict

ALPHA, POWER = 0.05, 0.9


def compare_samples(arguments: Sequence[str]) -> int:
    """Compare two evaluations that are done, item by item; nothing is run.

    They are lm-eval's --log_samples files or folders of them, Inspect's logs (.json or .eval), or
    CSV, TSV or JSON lines of your own, of which --columns names the id and the value. Items are
    paired by id.
    """
    judge_samples(parsed(arguments))
    return 0


def parsed(arguments: Sequence[str]) -> Namespace:
    """Return the words of ``compare --samples`` as they are read."""
    parser = samples_parser(compare_samples, "compare --samples")
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="the loss that matters: accuracy=1 (points), accuracy:gsm8k=2, f1=1, nll=0.5%%",
    )
    return parser.parse_args(arguments)


def samples_parser(function: Callable[..., Any], command: str = "") -> Parser:
    """Return a parser of two files, of the test's levels, and of what is written."""
    parser = Parser(function, command)
    add = parser.add_argument
    add("base", metavar="BASE", help="what is taken for good")
    add("candidate", metavar="CANDIDATE", help="what is judged")
    add("--samples", action="store_true", help="both are files of evaluations that are done")
    add("--columns", metavar="ID,VALUE", help="of your own files, with --samples")
    add("--subjects", action="store_true", help="tell each subject of MMLU and the like too")
    add("--metric", default="", help="one of several in the files: acc_norm")
    add("--alpha", type=float, default=ALPHA, help="of a false verdict, either way (default 0.05)")
    add("--power", type=float, default=POWER, help="of the items that would decide (default 0.9)")
    add("--markdown", type=Path, metavar="FILE", help="a comment for a pull request")
    add("--json", type=Path, metavar="FILE", help="the verdict with every number")
    return parser


def judge_samples(chosen: Namespace, *, named_alone: bool = False) -> "Verdict":
    """Judge two files, say what came, and return the verdict.

    With ``named_alone`` the metrics with a declared margin are judged, if any has one.
    """
    from benchsuite.comparing.kinds import parse_margins, with_margins
    from benchsuite.comparing.samples import paired
    from benchsuite.comparing.subjects import grouped, subject_line
    from benchsuite.comparing.verdict import check_levels, judge

    check_levels(chosen.alpha, chosen.power)
    margins = parse_margins(chosen.margin)
    files = Path(chosen.base), Path(chosen.candidate)
    found = paired(*files, columns=_columns(chosen.columns), metric=chosen.metric)
    items, subjects = grouped(found.items)
    notes = [*found.notes, *(subject_line(each) for each in subjects if chosen.subjects)]
    if named_alone:
        metrics = with_margins([one.metric for one in items], margins)
        items = tuple(one for one in items if one.metric in metrics)
    verdict = judge(items, margins=margins, alpha=chosen.alpha, power=chosen.power)
    say(chosen, verdict, notes)
    return verdict


def say(chosen: Namespace, verdict: "Verdict", notes: Sequence[str]) -> None:
    """Print a verdict, and write the files that were asked for."""
    from benchsuite.reporting.comparison import gate

    told = str(chosen.base), str(chosen.candidate), verdict, notes
    print(gate.to_text(*told), end="")
    for path, write in ((chosen.markdown, gate.to_markdown), (chosen.json, gate.to_json)):
        if path is not None:
            path.write_text(write(*told), encoding="utf-8")


def _columns(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    key, comma, value = (part.strip() for part in text.partition(","))
    if not (key and comma and value):
        raise UsageError(f"--columns {text!r} cannot be read", fix="write --columns ID,VALUE")
    return key, value
