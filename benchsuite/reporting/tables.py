"""A summary as CSV, YAML, LaTeX and Markdown."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from benchsuite.reporting.summary import EXTRA, METRIC_KEYS
from benchsuite.statistics.rounding import p_text, signed, with_interval, with_uncertainty

COLUMNS = (
    "kind",
    "model",
    "method",
    "n",
    "mean",
    "std",
    "cv_percent",
    "min",
    "max",
    "ci95_low",
    "ci95_high",
    "best",
    "selection_time_sec_mean",
    "quant_time_sec_mean",
    "device_kind",
    "contended",
)


def rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one flat row per model and method: real weights first, then stand-ins."""
    key = metric_key(summary)
    for kind, models in (("real", models_of(summary)), ("stand_in", summary[EXTRA]["stand_ins"])):
        for model, methods in models.items():
            for method, found in methods.items():
                if isinstance(found, Mapping) and key in found:
                    yield _row(kind, model, method, found, key)


def _row(kind: str, model: str, method: str, found: Mapping[str, Any], key: str) -> dict[str, Any]:
    seen, times = found[key], found["times"]
    low, high = seen["ci95"] or (None, None)
    kinds = times["device_kind"]
    return {
        "kind": kind,
        "model": model,
        "method": method,
        **{name: seen[name] for name in ("n", "mean", "std", "cv_percent", "min", "max")},
        "ci95_low": low,
        "ci95_high": high,
        "best": bool(found.get("best")),
        "selection_time_sec_mean": times["selection_time_sec_mean"],
        "quant_time_sec_mean": times["quant_time_sec_mean"],
        "device_kind": kinds if isinstance(kinds, str) else "+".join(kinds),
        "contended": times["contended"],
    }


def models_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary's models: every key but the project's own."""
    return {model: methods for model, methods in summary.items() if model != EXTRA}


def metric_key(summary: Mapping[str, Any]) -> str:
    """Return the key under which a method keeps its metric, ``ppl`` for perplexity."""
    metric = summary[EXTRA]["metric"]
    return METRIC_KEYS.get(metric, metric)


def comparisons(methods: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (method, other, comparison) of one model's tests that were run."""
    for name, found in methods.items():
        if name.startswith("ttest_") and found["test"] is not None:
            yield found["method"], found["other"], found


def to_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per model and method with unrounded numbers."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(summary))
    return out.getvalue()


def to_yaml(summary: Mapping[str, Any]) -> str:
    """Return the latent-reasoning document's ``summary.yaml`` per model and method.

    Each holds ``<metric>_mean``, ``<metric>_std`` and ``n_seeds`` for every metric of the study.
    """
    import yaml

    extra = summary[EXTRA]
    names = {metric_key(summary): extra["metric"], **{m: m for m in extra["metrics"]}}
    told = {
        model: {
            method: _yaml_row(found, names)
            for method, found in methods.items()
            if isinstance(found, Mapping) and set(names) & set(found)
        }
        for model, methods in models_of(summary).items()
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def _yaml_row(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, metric in names.items():
        if key in found:
            row |= {f"{metric}_mean": found[key]["mean"], f"{metric}_std": found[key]["std"]}
            row["n_seeds"] = found[key]["n"]
    return row


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables, comparisons and null results as Markdown."""
    extra = summary[EXTRA]
    lines = [f"# {extra['study']}", "", extra["question"], ""]
    lines += _markdown_models("", models_of(summary), metric_key(summary), extra["metric"])
    if extra["stand_ins"]:
        stand_ins = {
            model: {k: v for k, v in methods.items() if k != "reason"}
            for model, methods in extra["stand_ins"].items()
        }
        lines += ["## Stand-ins: not the models that they are named after", ""]
        lines += _markdown_models(" (stand-in)", stand_ins, metric_key(summary), extra["metric"])
    if extra["null_results"]:
        lines += ["## Null results", ""]
        lines += [line for null in extra["null_results"] for line in (null["text"], "")]
    if extra["missing"]:
        lines += [f"Missing: {len(extra['missing'])} of {extra['n_cells']} cells.", ""]
    return "\n".join(lines)


def _markdown_models(mark: str, models: Mapping[str, Any], key: str, metric: str) -> list[str]:
    lines = []
    for model, methods in models.items():
        lines += [f"## {model}{mark}" if not mark else f"### {model}{mark}", ""]
        lines += [f"| method | n | {metric} | 95 % interval | cv % |", "|---|---|---|---|---|"]
        for method, found in methods.items():
            if key in found:
                seen = found[key]
                text = with_uncertainty(seen["mean"], seen["std"])
                text = f"**{text}**" if found.get("best") else text
                low, high = seen["ci95"] or (None, None)
                interval = with_interval(seen["mean"], low, high).partition(" ")[2] or "–"
                lines.append(
                    f"| {method} | {seen['n']} | {text} | {interval} | {_cv(seen['cv_percent'])} |"
                )
        lines.append("")
        tested = list(comparisons(methods))
        if tested:
            lines += [
                "| comparison | difference | test | p | Holm p | g |",
                "|---|---|---|---|---|---|",
            ]
        for method, other, found in tested:
            low, high = found["ci95"] or (None, None)
            lines.append(
                f"| {method} − {other} | {with_interval(found['difference'], low, high)} "
                f"| {found['decided_by']} | {_p(_decisive_p(found))} | {_p(found['p_holm'])} "
                f"| {signed(found['hedges_g'])} |"
            )
        lines += [""] if tested else []
    return lines


def to_latex(summary: Mapping[str, Any]) -> str:
    """Return booktabs tables: all methods per model, then the comparisons.

    The document's header needs ``\\usepackage{booktabs}`` alone. Bold marks a best value that
    the tests confirm; a summary of nothing gives an empty string.
    """
    models, key = models_of(summary), metric_key(summary)
    if not models:
        return ""
    metric = latex_escape(summary[EXTRA]["metric"])
    study = latex_escape(summary[EXTRA]["study"])
    seen = {model: _latex_methods(methods, key) for model, methods in models.items()}
    tests = {model: _latex_comparisons(methods) for model, methods in models.items()}
    tables = latex_table(
        f"{study}: {metric} (mean $\\pm$ std over seeds)",
        ["Method", "$N$", metric, r"CV (\%)"],
        seen,
    )
    if any(tests.values()):
        tables += "\n" + latex_table(
            f"{study}: comparisons (difference with 95\\,\\% interval, $p$ of the deciding test, "
            "Holm-corrected $p$, Hedges' $g$)",
            ["Comparison", "Difference", "$p$", r"$p_{\mathrm{Holm}}$", "$g$"],
            tests,
        )
    return tables


def _latex_methods(methods: Mapping[str, Any], key: str) -> list[str]:
    rows = []
    for method, found in methods.items():
        if key in found:
            seen = found[key]
            text = _latex_number(seen["mean"], seen["std"])
            text = rf"\textbf{{{text}}}" if found.get("best") else text
            rows.append(
                rf"{latex_escape(method)} & {seen['n']} & {text} & {_cv(seen['cv_percent'])}"
            )
    return rows


def _latex_comparisons(methods: Mapping[str, Any]) -> list[str]:
    rows = []
    for method, other, found in comparisons(methods):
        low, high = found["ci95"] or (None, None)
        difference = with_interval(found["difference"], low, high).replace("−", "$-$")
        rows.append(
            rf"{latex_escape(method)} vs {latex_escape(other)} & "
            rf"{difference} & {latex_escape(_p(_decisive_p(found)))} & "
            rf"{latex_escape(_p(found['p_holm']))} & "
            rf"{signed(found['hedges_g']).replace('−', '$-$')}"
        )
    return rows


def latex_table(caption: str, header: list[str], rows: Mapping[str, list[str]]) -> str:
    """Return one booktabs table; ``rows`` by model, whose name stands above them and may be long.

    The rows are LaTeX already and come without their end; caption and header too.
    """
    blocks = [
        "\n".join(
            [
                rf"\multicolumn{{{len(header)}}}{{l}}{{\emph{{{latex_escape(model)}}}}} \\",
                *(rf"\quad {row} \\" for row in found),
            ]
        )
        for model, found in rows.items()
        if found
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        # Long method names fit the text width of an article in one column.
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        "\n\\addlinespace\n".join(blocks),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # In the default font encoding a bare < is printed as an inverted exclamation mark.
    "<": "$<$",
    ">": "$>$",
}


def latex_escape(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_number(mean: float | None, std: float | None) -> str:
    text = with_uncertainty(mean, std, plus_minus=r" $\pm$ ")
    return text.replace("−", "$-$").replace("–", "--")


def _decisive_p(found: Mapping[str, Any]) -> float | None:
    decided = found["decided_by"]
    return found["welch"]["p_value"] if decided == "welch" else found["p_value"]


def _p(p_value: float | None) -> str:
    return "--" if p_value is None else p_text(p_value).replace("p = ", "").replace("p < ", "<")


def _cv(cv: float | None) -> str:
    return "--" if cv is None else f"{cv:.2g}"
