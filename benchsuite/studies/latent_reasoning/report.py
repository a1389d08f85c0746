"""The KaVa guide's own files: seed folders, summaries, the paper's table, a figure.

::

    <configuration>/<method>/seed_42/results_<set>.yaml
                             all_seeds_results.yaml  summary.yaml  summary.csv
    paper_results.csv  paper_results.tex  accuracy_and_passes.png  accuracy_and_passes.svg
    latent_words.csv  accuracy_by_steps.csv

Rehearsals, stand-ins and cells with changed parameters are left out: the KaVa guide has no place to
say what they are. A configuration file of the user's own is a configuration like the KaVa guide's,
in a folder with the file's name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.records.fingerprint import digest
from benchsuite.records.record import Record
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.latex import latex_escape
from benchsuite.reporting.report import write_text
from benchsuite.reporting.rows import rows_as_csv
from benchsuite.reporting.tables import latex_table
from benchsuite.statistics import describe, proportion_interval, stability_class, two_std_rule
from benchsuite.studies.latent_reasoning import inside

# The KaVa guide's names of the sets, and which of ours stands in each of its columns.
SETS = {"gsm8k": "gsm8k", "gsm_hard": "gsm8k-hard", "svamp": "svamp"}
COLUMNS = (("gsm8k", "problems"), ("gsm_hard", "harder"), ("svamp", "rephrased"))
CONFIGURATIONS = {
    ("llama3_2_1b", "equations"): ("llama1b_gsm8k-aug", "LLaMA 3.2-1B", "GSM8k-AUG"),
    ("llama3_2_1b", "sentences"): ("llama1b_gsm8k-aug-nl", "LLaMA 3.2-1B", "GSM8k-AUG-NL"),
    ("qwen2_5_0_5b", "equations"): ("qwen05b_gsm8k-aug", "Qwen2.5-0.5B", "GSM8k-AUG"),
    ("llama3_2_3b", "equations"): ("llama3b_gsm8k-aug", "LLaMA 3.2-3B", "GSM8k-AUG"),
    ("smollm2_135m_q4", "equations"): (
        "smollm2_gsm8k",
        "SmolLM2-135M, dequantized Q4_1",
        "GSM8k-AUG as supplied",
    ),
}
# GSM8K accuracy in percent, all known from a secondary source only [S]: context, never a bar.
PUBLISHED = {
    ("llama3_2_1b", "equations"): {
        **{"full_cot": 61.6, "no_cot": 30.9, "icot": 19.0, "coconut": 45.3},
        **{"codi": 55.6, "pccot": 53.35, "kava": 56.5},
    },
    ("llama3_2_1b", "sentences"): {
        **{"full_cot": 53.2, "no_cot": 33.1, "icot": 15.2, "coconut": 27.2},
        **{"codi": 49.7, "pccot": 50.7, "kava": 55.7},
    },
    ("qwen2_5_0_5b", "equations"): {"full_cot": 50.6, "codi": 37.5, "pccot": 20.5, "kava": 46.9},
    ("llama3_2_3b", "equations"): {"full_cot": 73.2, "codi": 61.0, "pccot": 54.7, "kava": 65.7},
}

# The paper's columns in LaTeX: (caption, short name -> name).
LATEX_TABLES = (
    (
        r"Accuracy (\%, mean $\pm$ std over seeds) and forward passes (FP)",
        {
            **{"GSM8k": "GSM8k Acc (%)", "FP": "GSM8k FP"},
            **{"GSM8k-Hard": "GSM8k-Hard Acc (%)", "SVAMP": "SVAMP Acc (%)"},
        },
    ),
    (
        "GSM8k: stability over seeds, the two-std rule against full\\_cot, and what is published, "
        "as known from a secondary source [S]",
        {
            **{"Stability": "Stability", "2-std rule": "2-std rule against full_cot"},
            **{"Published [S]": "Published [S]", "Difference": "Difference"},
        },
    ),
)

Key = tuple[str, str, str]  # model, steps, the user's configuration file or ""
Summary = dict[str, dict[str, Any]]  # set -> statistics


def write(records: Sequence[Record], folder: Path, columns: Columns) -> list[Path]:
    """Write all files over the study's records and return their paths."""
    found: dict[tuple[Key, str], list[Record]] = {}
    for record in records:
        axes, changed = record.cell.axes, record.cell.changed
        itself = record.kind == "real" and record.source.weights != "checkpoint"
        if itself and set(changed) <= {"config"}:
            key = axes["model"], axes["steps"], changed.get("config", "")
            found.setdefault((key, axes["method"]), []).append(record)
    paths: list[Path] = []
    summaries: dict[tuple[Key, str], Summary] = {}
    places = _folders({key for key, _ in found})
    for (key, method), mine in found.items():
        summaries[key, method] = summarise(mine)
        paths += _write_method(folder / places[key] / method, mine, summaries[key, method])
    if summaries:
        paths += _write_paper(folder, summaries)
        paths += _draw(folder, summaries)
        paths += _write_inside(folder, found, columns)
    return paths


def _write_inside(
    folder: Path, found: Mapping[tuple[Key, str], Sequence[Record]], columns: Columns
) -> list[Path]:
    """Write latents as words, and accuracy by the gold solution's steps, where there are any."""
    words: list[inside.Row] = []
    steps: list[inside.Row] = []
    for (key, method), mine in found.items():
        _, model, data = name_of(key)
        title = {"Model": model, "Training Data": data}
        first = min(record.cell.seed for record in mine)
        words += inside.words((r for r in mine if r.cell.seed == first), columns, title)
        sets = _by_set(mine).items()
        counted = {(method, asked): inside.by_steps(r, columns) for asked, r in sets}
        steps += inside.steps_rows(counted, title)
    paths = []
    for name, rows in (("latent_words.csv", words), ("accuracy_by_steps.csv", steps)):
        if rows:
            paths.append(folder / name)
            write_text(paths[-1], rows_as_csv(rows))
    return paths


def _folders(keys: Iterable[Key]) -> dict[Key, str]:
    """Return each configuration's folder; files of one name in several places keep apart."""
    named = {key: name_of(key)[0] for key in keys}
    often = Counter(named.values())
    return {k: n if often[n] == 1 else f"{n}_{digest(k[2])[:6]}" for k, n in named.items()}


def name_of(key: Key) -> tuple[str, str, str]:
    """Return a configuration's folder, model and training data as the KaVa guide writes them."""
    model, steps, own = key
    folder, *words = CONFIGURATIONS.get((model, steps), (f"{model}_{steps}", model, steps))
    if own:
        return f"{folder}_{Path(own).stem}", words[0], f"{words[1]}, {Path(own).name}"
    return folder, words[0], words[1]


def summarise(records: Iterable[Record]) -> Summary:
    """Return the KaVa guide's statistics of each set over the seeds, with further ones."""
    return {SETS.get(name, name): _statistics(mine) for name, mine in _by_set(records).items()}


def _by_set(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.cell.axes["asked"], []).append(record)
    return found


def _statistics(records: Sequence[Record]) -> dict[str, Any]:
    accuracy = describe([r.value("accuracy") for r in records])
    passes = describe([r.value("forward_passes") for r in records])
    return {
        "accuracy_mean": accuracy.mean,
        "accuracy_std": accuracy.std,
        "forward_passes_mean": passes.mean,
        "forward_passes_std": passes.std,
        "n_seeds": len(records),
        "stability": stability_class(accuracy.std),
        "binomial_stderr_of_one_seed": max(r.value("accuracy_stderr") for r in records),
        "n_items": records[0].value("n_items_asked"),
    }


def _write_method(folder: Path, records: Sequence[Record], summary: Summary) -> list[Path]:
    seeds: dict[str, dict[str, Any]] = {}
    paths = []
    for record in records:
        asked = record.cell.axes["asked"]
        name = SETS.get(asked, asked)
        n = record.value("n_items_asked")
        bounds = proportion_interval(round(n * record.value("accuracy") / 100), n)
        result = {
            **{k: record.value(k) for k in ("accuracy", "accuracy_stderr", "forward_passes")},
            **{k: record.value(k) for k in ("thinking_passes", "parse_rate", "n_items_asked")},
            "accuracy_ci95": [100 * bound for bound in bounds],
        }
        seeds.setdefault(f"seed_{record.cell.seed}", {})[name] = result
        paths.append(folder / f"seed_{record.cell.seed}" / f"results_{name}.yaml")
        write_text(paths[-1], _yaml(result))
    write_text(folder / "all_seeds_results.yaml", _yaml(seeds))
    write_text(folder / "summary.yaml", _yaml(summary))
    rows = [{"dataset": name, **values} for name, values in summary.items()]
    write_text(folder / "summary.csv", rows_as_csv(rows))
    return [
        *paths,
        *(folder / f for f in ("all_seeds_results.yaml", "summary.yaml", "summary.csv")),
    ]


def _write_paper(folder: Path, summaries: Mapping[tuple[Key, str], Summary]) -> list[Path]:
    rows = [_paper_row(key, method, summaries) for key, method in summaries]
    write_text(folder / "paper_results.csv", rows_as_csv(rows))
    tables = (_latex_part(caption, columns, rows) for caption, columns in LATEX_TABLES)
    write_text(folder / "paper_results.tex", "\n".join(tables))
    return [folder / "paper_results.csv", folder / "paper_results.tex"]


def _paper_row(
    key: Key, method: str, summaries: Mapping[tuple[Key, str], Summary]
) -> dict[str, Any]:
    """Return one row of the paper's table: the KaVa guide's columns, then what judges them."""
    _, model, data = name_of(key)
    summary = summaries[key, method]
    shown = [
        next((summary[SETS.get(n, n)] for n in names if SETS.get(n, n) in summary), None)
        for names in COLUMNS
    ]
    first, reference = shown[0], _first_set(summaries.get((key, "full_cot"), {}))
    published = None if key[2] else PUBLISHED.get(key[:2], {}).get(method)
    return {
        "Model": model,
        "Training Data": data,
        "Method": method,
        "GSM8k Acc (%)": _plus_minus(first),
        "GSM8k FP": "" if first is None else f"{first['forward_passes_mean']:.1f}",
        "GSM8k-Hard Acc (%)": _plus_minus(shown[1]),
        "SVAMP Acc (%)": _plus_minus(shown[2]),
        "Stability": "" if first is None else first["stability"],
        "2-std rule against full_cot": _against(first, reference),
        "Published [S]": "" if published is None else f"{published:g}",
        "Difference": ""
        if published is None or first is None
        else f"{first['accuracy_mean'] - published:+.2f}",
    }


def _first_set(summary: Summary) -> dict[str, Any] | None:
    return next((summary[SETS.get(n, n)] for n in COLUMNS[0] if SETS.get(n, n) in summary), None)


def _against(first: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    if first is None or other is None or first is other:
        return ""
    pairs = [(s["accuracy_mean"], s["accuracy_std"]) for s in (first, other)]
    rule = two_std_rule(*pairs[0], *pairs[1])
    if not rule.defined:
        return "one seed: no std"
    return {"a": "higher", "b": "lower"}.get(rule.higher or "", "overlap")


def _plus_minus(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    mean, std = found["accuracy_mean"], found["accuracy_std"]
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _latex_part(caption: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> str:
    """Return a LaTeX table of some columns: all in one would be wider than a page."""
    blocks: dict[str, list[str]] = {}
    for row in rows:
        cells = (_latex(row[name]) for name in ("Method", *columns.values()))
        blocks.setdefault(f"{row['Model']}, {row['Training Data']}", []).append(" & ".join(cells))
    head = [latex_escape(name) for name in ("Method", *columns)]
    return latex_table(caption, head, blocks)


def _latex(value: str) -> str:
    text = latex_escape(value)
    return text.replace("-", "$-$", 1) if text.startswith("-") else text


def _yaml(content: Any) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False)


def _draw(folder: Path, summaries: Mapping[tuple[Key, str], Summary]) -> list[Path]:
    """Draw accuracy against forward passes, a panel each configuration; without matplotlib none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    keys = list(dict.fromkeys(key for key, _ in summaries))
    figure = Figure(figsize=(5 * len(keys), 4), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for panel, key in zip(panels, keys, strict=True):
        for (other, method), summary in summaries.items():
            seen = _first_set(summary) if other == key else None
            if seen is not None:
                point = seen["forward_passes_mean"], seen["accuracy_mean"]
                panel.errorbar(*point, yerr=seen["accuracy_std"] or 0, fmt="o", capsize=3)
                panel.annotate(method, point, textcoords="offset points", xytext=(5, 4))
        panel.set(title=" ".join(name_of(key)[1:]), xlabel="forward passes", xscale="log")
        panel.margins(x=0.2)  # names stand to the right of their points
        panel.set_ylabel("accuracy, % (mean and std over seeds)")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"accuracy_and_passes.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=120)
    return paths
