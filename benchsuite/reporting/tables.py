"""A summary as CSV, YAML, LaTeX and Markdown."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from benchsuite.printable import count
from benchsuite.reporting import numbers
from benchsuite.reporting.latex import latex_escape
from benchsuite.reporting.summary import EXTRA
from benchsuite.statistics.rounding import p_text, short, signed
from benchsuite.study import Metric

STATISTICS = ("n", "mean", "std", "cv_percent", "min", "max")


def columns(summary: Mapping[str, Any]) -> list[str]:
    """Return the columns of the CSV, which has a time for each stage of the study's making."""
    return [
        *("kind", "model", "method", "metric", *STATISTICS, "ci95_low", "ci95_high", "best"),
        *(f"{stage}_time_sec_mean" for stage in (*summary[EXTRA]["making"], "total")),
        *("device_kind", "contended"),
    ]


def rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one flat row per model and method: real weights first, then stand-ins."""
    metric = metric_of(summary)
    for kind, models in (("real", models_of(summary)), ("stand_in", summary[EXTRA]["stand_ins"])):
        for model, methods in models.items():
            for method, found in methods.items():
                if _is_method(found) and metric.document_key in found:
                    yield _row(kind, model, method, found, metric)


def _is_method(found: Any) -> bool:
    """Tell a method from the comparisons beside it, whose keys may be a metric's name: ``other``.

    Methods alone have times, and no metric is named so.
    """
    return isinstance(found, Mapping) and "times" in found


def _row(
    kind: str, model: str, method: str, found: Mapping[str, Any], metric: Metric
) -> dict[str, Any]:
    seen, times = found[metric.document_key], found["times"]
    low, high = seen["ci95"] or (None, None)
    kinds = times["device_kind"]
    return {
        "kind": kind,
        "model": model,
        "method": method,
        "metric": metric.stored_heading,
        **{name: seen[name] for name in STATISTICS},
        "ci95_low": low,
        "ci95_high": high,
        "best": bool(found.get("best")),
        **{name: mean for name, mean in times.items() if name.endswith("_time_sec_mean")},
        "device_kind": kinds if isinstance(kinds, str) else "+".join(kinds),
        "contended": times["contended"],
    }


def models_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary's models: every key but the project's own."""
    return {model: methods for model, methods in summary.items() if model != EXTRA}


def metric_of(summary: Mapping[str, Any], name: str = "") -> Metric:
    """Return a metric of the summary's study: the named one, or what ranks its methods."""
    extra = summary[EXTRA]
    name = name or extra["metric"]
    return Metric(**extra["metric_facts"].get(name, {"name": name}))


def comparisons(methods: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (method, other, comparison) of one model's tests that were run."""
    for name, found in methods.items():
        if not _is_method(found) and name.startswith("ttest_") and found["test"] is not None:
            yield found["method"], found["other"], found


def to_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per model and method with unrounded numbers, as stored."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns(summary), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(summary))
    return out.getvalue()


def to_yaml(summary: Mapping[str, Any]) -> str:
    """Return a source document's ``summary.yaml`` per model and method.

    Each holds ``n_seeds``, and ``<metric>_mean`` and ``<metric>_std`` for every metric of the
    study; one that fewer seeds hold has ``<metric>_n_seeds`` of its own.
    """
    import yaml

    extra = summary[EXTRA]
    metrics = [metric_of(summary, name) for name in (extra["metric"], *extra["metrics"])]
    names = {metric.document_key: metric.name for metric in metrics if not metric.parts}
    told = {
        model: {
            method: _yaml_row(found, names)
            for method, found in methods.items()
            if _is_method(found) and set(names) & set(found)
        }
        for model, methods in models_of(summary).items()
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def _yaml_row(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, metric in names.items():
        if key in found:
            row |= {f"{metric}_mean": found[key]["mean"], f"{metric}_std": found[key]["std"]}
            n_seeds = row.setdefault("n_seeds", found[key]["n"])
            if found[key]["n"] != n_seeds:
                row[f"{metric}_n_seeds"] = found[key]["n"]
    return row


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables, comparisons and null results as Markdown."""
    extra = summary[EXTRA]
    lines = [f"# {extra['study']}", "", extra["question"], ""]
    lines += _markdown_models("", models_of(summary), summary)
    if extra["stand_ins"]:
        stand_ins = {
            model: {k: v for k, v in methods.items() if k != "reason"}
            for model, methods in extra["stand_ins"].items()
        }
        lines += ["## Stand-ins: not the models that they are named after", ""]
        lines += _markdown_models(" (stand-in)", stand_ins, summary)
    if over := [*extra.get("over_models", ()), *extra.get("ranks", ())]:
        lines += ["## Over models", ""]
        lines += [line for one in over for line in (one["sentence"], "")]
    if extra["null_results"]:
        lines += ["## Null results", ""]
        lines += [line for null in extra["null_results"] for line in (null["text"], "")]
    if extra["missing"]:
        cells = count(extra["n_cells"], "cell")
        lines += [f"Missing: {len(extra['missing'])} of {cells}.", ""]
    return "\n".join(lines)


def _markdown_models(mark: str, models: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    lines, metric = [], metric_of(summary)
    key = metric.document_key
    for model, methods in models.items():
        lines += [f"## {model}{mark}" if not mark else f"### {model}{mark}", ""]
        lines += [
            f"| method | n | {metric.heading} | 95 % interval | cv % |",
            "|---|---|---|---|---|",
        ]
        for method, found in methods.items():
            if _is_method(found) and key in found:
                seen = found[key]
                text = numbers.spread(metric, seen["mean"], seen["std"], unit=False)
                text = f"**{text}**" if found.get("best") else text
                low, high = seen["ci95"] or (None, None)
                interval = numbers.interval(metric, seen["mean"], low, high)
                interval = interval.partition(" ")[2] or "–"
                lines.append(
                    f"| {method} | {seen['n']} | {text} | {interval} | {_cv(seen['cv_percent'])} |"
                )
        lines.append("")
        tested = list(comparisons(methods))
        if tested:
            lines += [
                f"| comparison | metric | difference ({_intervals(tested)}) | test | p | Holm p "
                "| effect |",
                "|---|---|---|---|---|---|---|",
            ]
        for method, other, found in tested:
            lines.append(
                f"| {method} − {other} | {_heading(summary, found)} "
                f"| {_difference(summary, found)} | {_test(found)} | {_p(_decisive_p(found))} "
                f"| {_p(found['p_holm'])} | {_effect(found)} |"
            )
        lines += [""] if tested else []
    return lines


def to_latex(summary: Mapping[str, Any]) -> str:
    """Return booktabs tables: all methods per model, then the comparisons.

    The LaTeX document's header needs ``\\usepackage{booktabs}`` alone. Bold marks a best value that
    the tests confirm; a summary of nothing gives an empty string.
    """
    models, metric = models_of(summary), metric_of(summary)
    if not models:
        return ""
    heading = latex_escape(metric.heading)
    study = latex_escape(summary[EXTRA]["study"])
    seen = {model: _latex_methods(methods, metric) for model, methods in models.items()}
    tests = {model: _latex_comparisons(methods, summary) for model, methods in models.items()}
    tables = latex_table(
        f"{study}: {heading} (mean $\\pm$ std over seeds)",
        ["Method", "$N$", heading, r"CV (\%)"],
        seen,
    )
    if any(tests.values()):
        tables += "\n" + latex_table(
            f"{study}: comparisons (difference with its interval, simultaneous 95\\,\\% over those "
            "tested, $p$ of the deciding test, of an equivalence at its margin's edge, "
            "Holm-corrected $p$, effect in standard deviations)",
            ["Comparison", "Metric", "Difference", "$p$", r"$p_{\mathrm{Holm}}$", "Effect"],
            tests,
        )
    return tables


def _latex_methods(methods: Mapping[str, Any], metric: Metric) -> list[str]:
    rows, key = [], metric.document_key
    for method, found in methods.items():
        if _is_method(found) and key in found:
            seen = found[key]
            text = latex_escape(numbers.spread(metric, seen["mean"], seen["std"], unit=False))
            text = rf"\textbf{{{text}}}" if found.get("best") else text
            rows.append(
                rf"{latex_escape(method)} & {seen['n']} & {text} & "
                rf"{latex_escape(_cv(seen['cv_percent']))}"
            )
    return rows


def _difference(summary: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    low, high = found.get("ci_simultaneous") or found["ci95"] or (None, None)
    return numbers.interval(metric_of(summary, found["metric"]), found["difference"], low, high)


def _heading(summary: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return what a comparison is of, with the unit of its difference."""
    return metric_of(summary, found["metric"]).heading


def _test(found: Mapping[str, Any]) -> str:
    tested = found["decided_by"]
    return tested if found.get("p_equivalence") is None else f"equivalence, {tested}"


def _effect(found: Mapping[str, Any]) -> str:
    """Return a comparison's effect size in its own unit: g, or d_z where seeds are paired."""
    name = found.get("effect_name")
    return f"{name} = {signed(found['effect'])}" if name and found["effect"] is not None else "–"


def _intervals(tested: list[tuple[str, str, dict[str, Any]]]) -> str:
    """Return what the intervals of a table's differences cover."""
    simultaneous = any(found.get("ci_simultaneous") for _, _, found in tested)
    return "simultaneous 95 %" if simultaneous else "95 %"


def _latex_comparisons(methods: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    rows = []
    for method, other, found in comparisons(methods):
        difference = latex_escape(_difference(summary, found))
        # There is no column of tests: the p-value of an equivalence is of its margin's edge.
        kind = "" if found.get("p_equivalence") is None else ", equivalence"
        rows.append(
            rf"{latex_escape(method)} vs {latex_escape(other)}{kind} & "
            rf"{latex_escape(_heading(summary, found))} & "
            rf"{difference} & {latex_escape(_p(_decisive_p(found)))} & "
            rf"{latex_escape(_p(found['p_holm']))} & "
            rf"{latex_escape(_effect(found))}"
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


def _decisive_p(found: Mapping[str, Any]) -> float | None:
    if found.get("p_equivalence") is not None:
        return found["p_equivalence"]
    decided = found["decided_by"]
    return found["welch"]["p_value"] if decided == "welch" else found["p_value"]


def _p(p_value: float | None) -> str:
    return "–" if p_value is None else p_text(p_value).replace("p = ", "").replace("p < ", "<")


def _cv(cv: float | None) -> str:
    return "–" if cv is None else short(cv)
