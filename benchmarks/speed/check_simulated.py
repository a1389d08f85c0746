"""Does ``benchsuite check`` convict the innocent, and does it see what was altered?

Tables of known truth go through the code that checks printed summaries. *Consistent* ones are drawn
with two arms of 3 to 10 seeds, equal or not, tested by Student's, Welch's, a paired or a one-sample
test, which they name or not; written in six structures; rounded to fixed decimals, to three digits,
by their errors (Particle Data Group), or not at all. None may be convicted. *Altered* ones are
unrounded, and one number of each is changed.

    python benchmarks/speed/check_simulated.py
"""

import argparse
import csv
import io
import json
import math
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from benchsuite.records import environment
from benchsuite.reporting import check_summary
from benchsuite.reporting.checking.files import read
from benchsuite.statistics.rounding import decimals_for

TESTS = ("student", "welch", "paired", "one_sample")
ROUNDINGS = ("none", "fixed", "digits", "errors")
SHAPES = ("document", "flat", "suffixes", "rows", "texts", "numpy", "yaml", "csv")
ALTERED = (
    "mean",
    "std",
    "cv_percent",
    "n",
    "seeds",
    "ci95",
    "t",
    "p",
    "d",
    "d without t",
    "p > 1",
    "std < 0",
    "p_holm < p",
    "interval of the difference",
    "df",
    "latent: std < 0",
    "latent: n_seeds",
    "latent: stability",
    "latent: interval",
)


def drawn(rng, test, *, unequal=True):
    """Return a consistent table's unrounded numbers, tested by ``test``."""
    n = int(rng.integers(3, 11))
    m = int(rng.integers(3, 11)) if unequal and test in ("student", "welch") else n
    scale, level = 10 ** rng.uniform(-2, 1), 10 ** rng.uniform(0, 2)
    shared = rng.normal(size=n) * (test == "paired") * rng.uniform(0, 2)
    a = level + scale * (rng.normal(size=n) + shared)
    b = level + scale * (rng.normal(size=m) * rng.uniform(0.5, 2) + rng.normal() + shared[:1] * 0)
    if test == "paired":
        b = b + scale * shared
    if test == "one_sample":
        b = np.full(m, level + scale * rng.normal())
        found, df = stats.ttest_1samp(a, b[0]), n - 1
        interval = found.confidence_interval()
        d, low, high = (a.mean() - b[0]) / a.std(ddof=1), interval.low - b[0], interval.high - b[0]
    elif test == "paired":
        found, df = stats.ttest_rel(a, b), n - 1
        low, high = found.confidence_interval()
        d = (a - b).mean() / (a - b).std(ddof=1) if rng.random() < 0.5 else pooled_d(a, b)
    else:
        found = stats.ttest_ind(a, b, equal_var=test == "student")
        df, d, (low, high) = found.df, pooled_d(a, b), found.confidence_interval()
    p = float(found.pvalue)
    family = int(rng.integers(1, 8))
    return {
        "arms": [arm(a), arm(b)],
        "t": float(found.statistic),
        "p": p,
        "d": float(d),
        "df": float(df),
        "p_holm": min(1.0, p * rng.uniform(1, family)),
        "family_size": family,
        "difference": float(a.mean() - b.mean()),
        "ci95": [float(low), float(high)],
        "test": test,
    }


def pooled_d(a, b):
    """Return Cohen's d."""
    n, m = len(a), len(b)
    pooled = ((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / (n + m - 2)
    return (a.mean() - b.mean()) / math.sqrt(pooled)


def arm(values):
    """Return an arm's statistics."""
    n, mean = len(values), float(np.mean(values))
    still = len(set(values.tolist())) == 1
    mean, std = (float(values[0]), 0.0) if still else (mean, float(values.std(ddof=1)))
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return {
        "mean": mean,
        "std": std,
        "cv_percent": 100 * std / abs(mean),
        "n": n,
        "min": float(values.min()),
        "max": float(values.max()),
        "seeds": list(range(n)),
        "ci95": [mean - half, mean + half],
    }


def rounded(rng, table, how):
    """Return the table as it would be printed."""
    if how == "none":
        return table
    decimals = int(rng.integers(2, 5))

    def one(x, std=None):
        if isinstance(x, list):
            return [one(v, std) for v in x]
        if not isinstance(x, float):
            return x
        if how == "digits" and x:
            return round(x, 2 - math.floor(math.log10(abs(x))))
        if how == "errors" and std:
            return round(x, decimals_for(std))
        return round(x, decimals)

    arms = [
        {
            k: v if k == "seeds" else one(v, a["std"] if k != "cv_percent" else None)
            for k, v in a.items()
        }
        for a in table["arms"]
    ]
    rest = {k: one(v) for k, v in table.items() if k not in ("arms", "difference", "ci95")}
    apart = {k: one(table[k], max(a["std"] for a in table["arms"])) for k in ("difference", "ci95")}
    return {"arms": arms, **rest, **apart}


def written(rng, table, shape, folder, *, named):
    """Return the table in one of the structures; the last two go through a file."""
    first, second = table["arms"]
    test = {
        "t_stat": table["t"],
        "p_value": table["p"],
        "cohens_d": table["d"],
        "p_holm": table["p_holm"],
        "family_size": table["family_size"],
    }
    test |= {"df": table["df"], "ci95": table["ci95"], "difference": table["difference"]}
    for key in ("df", "ci95", "difference", "t_stat", "p_value"):
        if rng.random() < 0.3:
            test.pop(key)
    if "t_stat" not in test and "p_value" not in test:
        test.pop("cohens_d")  # that of pairs is known by its t or its p alone
    test |= {"test": table["test"]} if named else {}
    if shape == "flat":
        flat = {k: [first[k], second[k]] for k in ("mean", "std", "n")}
        return {**flat, **test}
    if shape in ("suffixes", "csv"):
        wide = {
            f"{k}_{x}": a[k]
            for x, a in zip("ab", table["arms"], strict=True)
            for k in ("mean", "std", "min", "max", "n")
        }
        return through_csv({**wide, **test}, folder) if shape == "csv" else {**wide, **test}
    if shape == "rows":
        rows = [{"model": "m", "method": x, **a} for x, a in zip("ab", table["arms"], strict=True)]
        return [*rows, {"model": "m", "method": "a", "other": "b", **test}]
    nested = {"m": {"a": {"ppl": first}, "b": {"ppl": second}, "ttest_a_vs_b": test}}
    if shape == "texts":
        return as_texts(nested)
    if shape == "numpy":
        return as_numpy(nested)
    if shape == "yaml":
        import yaml

        path = Path(folder) / "summary.yaml"
        path.write_text(yaml.safe_dump(nested))
        return read(path)
    path = Path(folder) / "summary.json"
    path.write_text(json.dumps(nested))
    return read(path)


def through_csv(row, folder):
    """Return a row as it is read from a CSV."""
    out = io.StringIO()
    low, high = row.pop("ci95", (None, None))
    row |= {"ci95_low": low, "ci95_high": high}
    writer = csv.DictWriter(out, list(row))
    writer.writeheader()
    writer.writerow(row)
    path = Path(folder) / "summary.csv"
    path.write_text(out.getvalue())
    return read(path)


def as_texts(data):
    """Return every float as a text with a proper minus sign."""
    if isinstance(data, dict):
        return {k: as_texts(v) for k, v in data.items()}
    if isinstance(data, list):
        return [as_texts(v) for v in data]
    return repr(data).replace("-", "−") if isinstance(data, float) else data


def as_numpy(data):
    """Return every number as numpy's."""
    if isinstance(data, dict):
        return {k: as_numpy(v) for k, v in data.items()}
    if isinstance(data, list):
        return np.asarray(data)
    return (
        np.float64(data)
        if isinstance(data, float)
        else np.int64(data)
        if isinstance(data, int)
        else data
    )


def latent(rng):
    """Return the latent-reasoning document's summary of one set, and one seed's results."""
    from benchsuite.statistics import proportion_interval, stability_class

    n, items = int(rng.integers(3, 6)), int(rng.integers(50, 1400))
    right = rng.binomial(items, rng.uniform(0.2, 0.9), n)
    values = 100 * right / items
    std = float(values.std(ddof=1))
    share = right[0] / items
    summary = {
        "accuracy_mean": float(values.mean()),
        "accuracy_std": std,
        "forward_passes_mean": 48.2,
        "forward_passes_std": 1.1,
        "n_seeds": n,
        "seeds": list(range(42, 42 + n)),
        "stability": stability_class(std),
    }
    seed = {
        "accuracy": float(values[0]),
        "n_items_asked": items,
        "accuracy_stderr": 100 * math.sqrt(share * (1 - share) / items),
        "accuracy_ci95": [100 * x for x in proportion_interval(int(right[0]), items)],
    }
    return {"gsm8k": summary, "seed_42": {"gsm8k": seed}}


def altered_latent(rng, what):
    """Return a latent-reasoning summary in which one number is not what it should be."""
    data = latent(rng)
    summary, seed = data["gsm8k"], data["seed_42"]["gsm8k"]
    if what.endswith("std < 0"):
        summary["accuracy_std"] *= -1
    elif what.endswith("n_seeds"):
        summary["n_seeds"] += int(rng.choice([-1, 1, 2]))
    elif what.endswith("stability"):
        known = ("highly stable", "normal variation", "high variance")
        summary["stability"] = rng.choice([k for k in known if k != summary["stability"]])
    else:
        end = int(rng.integers(2))
        seed["accuracy_ci95"][end] += 3 * rng.choice([-1, 1])
    return data


def altered(rng, what):
    """Return an unrounded table in which one number is not what it should be."""
    factor = float(rng.choice([rng.uniform(0.5, 0.9), rng.uniform(1.1, 2.0)]))
    if what.startswith("latent"):
        return altered_latent(rng, what)
    table = drawn(rng, str(rng.choice(TESTS[:2])))
    one = table["arms"][int(rng.integers(2))]
    test = {
        "t_stat": table["t"],
        "p_value": table["p"],
        "cohens_d": table["d"],
        "p_holm": table["p_holm"],
        "df": table["df"],
        "ci95": table["ci95"],
    }
    if what in ("mean", "std", "cv_percent"):
        one[what] *= factor
    elif what == "n":
        one["n"] += int(rng.choice([-1, 1, 2]))
    elif what == "seeds":
        one["seeds"] = one["seeds"][:-1]
    elif what == "ci95":
        one["ci95"][int(rng.integers(2))] += one["std"] * (factor - 1)
    elif what == "interval of the difference":
        table["ci95"][int(rng.integers(2))] += one["std"] * (factor - 1)
    elif what == "std < 0":
        one["std"] *= -1
    elif what == "p > 1":
        test["p_value"] = 1 + rng.random()
    elif what == "p_holm < p":
        test["p_holm"] = table["p"] * rng.random()
    elif what == "p":
        test["p_value"] = table["p"] * factor if table["p"] * factor < 1 else table["p"] / 2
    else:
        key = {"t": "t_stat", "df": "df"}.get(what, "cohens_d")
        test[key] *= factor
    if what == "d without t":
        test = {"cohens_d": test["cohens_d"]}
    return {
        "m": {"a": {"ppl": table["arms"][0]}, "b": {"ppl": table["arms"][1]}, "ttest_a_vs_b": test}
    }


def false_alarms(rng, tables, folder):
    """Return what was convicted, per test, and how often pairs were told of; print the first."""
    seen, convicted, unless, untested = Counter(), Counter(), Counter(), 0
    for i in range(tables):
        test, how = TESTS[i % len(TESTS)], ROUNDINGS[i // len(TESTS) % len(ROUNDINGS)]
        shape, named = str(rng.choice(SHAPES)), bool(rng.random() < 0.5)
        table = drawn(rng, test)
        data = written(rng, rounded(rng, table, how), shape, folder, named=named)
        found = check_summary(data)
        seen[test] += 1
        convicted[test] += bool(found.findings)
        unless[test] += bool(found.unless)
        untested += not found.passed and not found.findings
        if found.findings and sum(convicted.values()) <= 5:
            print(test, how, shape, named, found.findings, file=sys.stderr)
    return seen, convicted, unless, untested


def detected(rng, what, tables):
    """Return the share of altered tables that are convicted."""
    return sum(bool(check_summary(altered(rng, what)).findings) for _ in range(tables)) / tables


def main():
    """Print the tables; status 1 if a consistent table is convicted or a bar of 95 % is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=4000, help="consistent ones")
    parser.add_argument("--altered", type=int, default=500, help="of each kind")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.rng_seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        seen, convicted, unless, untested = false_alarms(rng, options.tables, folder)
    print(
        "| consistent tables | n | convicted | told of pairs | nothing tested |\n"
        + "|---" * 5
        + "|"
    )
    for test in TESTS:
        print(f"| {test} | {seen[test]} | {convicted[test]} | {unless[test]} | |")
    print(f"| all | {options.tables} | {convicted.total()} | {unless.total()} | {untested} |\n")
    print("| altered | found |\n|---|---|")
    shares = {what: detected(rng, what, options.altered) for what in ALTERED}
    for what, share in shares.items():
        print(f"| {what} | {100 * share:.1f} % |")
    took = time.perf_counter() - start
    error = 100 * math.sqrt(0.95 * 0.05 / options.altered)
    print(
        f"\n{options.altered} altered tables a row (Monte-Carlo SE at 95 %: {error:.1f} points), "
        f"{took:.0f} s on {environment.cpu().name}, Python {platform.python_version()}, "
        f"numpy {np.__version__}"
    )
    return int(convicted.total() > 0 or min(shares.values()) < 0.95)


if __name__ == "__main__":
    sys.exit(main())
