import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import yaml

from benchsuite.reporting import summarise, to_csv, to_latex, to_markdown, to_yaml
from benchsuite.reporting.latex import latex_escape
from benchsuite.statistics.equivalence import tost
from benchsuite.study import PERPLEXITY, Metric, equivalent, lower, study
from tests.reporting.factory import CALIBRATION, drawn, grid, record

CLEAR = {"gptq_default": 5.80, "random": 5.79, "cola_zero": 5.50}


def made(std=0.05, means=CLEAR, **options):
    cells = grid("tiny_llama_1m", "llama2_7b", methods=list(CLEAR))
    return summarise(study(CALIBRATION), cells, drawn(cells, std=std, means=means, **options))


def test_csv_has_one_unrounded_row_per_model_and_method():
    summary = made()
    rows = list(csv.DictReader(io.StringIO(to_csv(summary))))

    assert [(r["model"], r["method"]) for r in rows][:2] == [
        ("tiny_llama_1m", "gptq_default"),
        ("tiny_llama_1m", "random"),
    ]
    assert len(rows) == 6
    mean = summary["llama-2-7b-hf"]["random"]["ppl"]["mean"]
    assert float(rows[4]["mean"]) == mean


def test_comparisons_say_of_which_metric_they_are_and_none_takes_the_place_of_another():
    pair = ("cola_zero", "random")
    claims = (
        lower("perplexity", pair[0], than=pair[1]),
        lower("quant_time_sec", pair[0], than=pair[1]),
        equivalent("perplexity", pair[0], to=pair[1], within=0.6),
        lower("perplexity", pair[0], than=pair[1], by_seed=True),
    )
    seconds = Metric("quant_time_sec", better="lower", unit="s")
    mine = replace(study(CALIBRATION), claims=claims, metrics=(PERPLEXITY, seconds))
    cells = grid("tiny_llama_1m", methods=pair)
    judged = summarise(mine, cells, drawn(cells, means=CLEAR))

    found = {k: v for k, v in judged["tiny_llama_1m"].items() if k.startswith("ttest_")}
    key = "ttest_cola_zero_vs_random"
    assert list(found) == [key, f"{key}__quant_time_sec", f"{key}__lower", f"{key}__equivalent"]
    assert [one["decided_by"] for one in found.values()] == ["welch", "exact", "paired", "welch"]
    arms = [[judged["tiny_llama_1m"][m]["ppl"]["values"] for m in pair][i] for i in (0, 1)]
    edge = tost(*arms, 0.6).p_either
    rows = [line for line in to_markdown(judged).splitlines() if line.startswith("| cola_zero −")]
    assert [row.split(" | ")[1] for row in rows] == ["perplexity", "quant_time_sec (s)"] + [
        "perplexity"
    ] * 2
    assert rows[3].split(" | ")[3] == "equivalence, welch"
    assert edge < float(rows[3].split(" | ")[4].removeprefix("<")) < 0.05
    assert r"cola\_zero vs random & quant\_time\_sec (s) & " in to_latex(judged)
    assert to_latex(judged).count(r"cola\_zero vs random, equivalence & perplexity & ") == 1


@pytest.mark.parametrize("name", ["other", "n", "test", "effect", "margin", "reason", "df"])
def test_a_metric_may_be_named_as_a_comparisons_own_keys_are(name):
    claims = (lower(name, "cola_zero", than="random"),)
    mine = replace(study(CALIBRATION), claims=claims, metrics=(Metric(name, better="lower"),))
    cells = grid("tiny_llama_1m", methods=["cola_zero", "random"])
    records = drawn(cells, means=CLEAR, change=lambda cell: {name: 1.5 + cell.seed / 1e6})
    judged = summarise(mine, cells, records)

    rows = list(csv.DictReader(io.StringIO(to_csv(judged))))
    assert [row["method"] for row in rows] == ["random", "cola_zero"]
    assert to_markdown(judged).count("| 5 |") == 2
    assert list(yaml.safe_load(to_yaml(judged))["tiny_llama_1m"]) == ["random", "cola_zero"]
    assert to_latex(judged).count("& 5 &") == 2


def test_a_method_may_be_named_as_comparisons_are():
    own = replace(study(CALIBRATION), claims=()).with_methods("ttest_time")
    cells = [c for c in own.cells(seeds=[1, 2]) if c.method in ("random", "ttest_time")]
    cells = [c for c in cells if c.model == "tiny_llama_1m"]
    judged = summarise(own, cells, {c.id: record(c, 5 + c.seed) for c in cells})

    assert "ttest_time" in to_csv(judged)
    assert r"ttest\_time" in to_latex(judged)
    assert "| ttest_time | 2 |" in to_markdown(judged)


def test_latex_escapes_underscores_and_balances():
    text = to_latex(made())

    assert r"cola\_zero" in text
    assert not re.search(r"(?<!\\)_(?!\{)", text)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"\toprule" in text
    assert "±" not in text
    assert "−" not in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = {line.count(" & ") for line in body if "multicolumn" not in line}
    assert columns == {3, 5}


def test_latex_numbers_follow_their_uncertainty():
    cell = re.search(r"cola\\_zero & 5 & (.*?) &", to_latex(made(std=0.05))).group(1)

    assert re.fullmatch(r"(\\textbf\{)?5\.\d{2,3} \$\\pm\$ 0\.0\d{1,2}\}?", cell)


def test_only_a_confirmed_best_is_bold():
    assert r"\textbf" in to_latex(made(std=0.01))
    assert r"\textbf" not in to_latex(made(std=0.8))
    assert "**" in to_markdown(made(std=0.01))
    assert "**" not in to_markdown(made(std=0.8))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_tables_compile_and_fit_the_text_width(tmp_path):
    changed = {"evaluation_tokens": 16384, "n_calibration_samples": 16}
    cells = grid("tiny_llama_1m", methods=list(CLEAR), settings=changed)
    cells = [cell for cell in cells if cell.seed < 44]  # two seeds: some effects are undefined
    tables = to_latex(summarise(study(CALIBRATION), cells, drawn(cells, means=CLEAR)))
    packages = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(rf"{packages}{tables}\end{{document}}")

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "all.pdf").stat().st_size > 0


def test_every_special_character_of_latex_is_escaped():
    assert latex_escape(r"a_b&c%d$e#f{g}~^\x<y>") == (
        r"a\_b\&c\%d\$e\#f\{g\}\textasciitilde{}\textasciicircum{}\textbackslash{}x$<$y$>$"
    )


def test_an_empty_summary_gives_empty_tables():
    cells = grid("llama2_7b", methods=["random"])
    summary = summarise(study(CALIBRATION), cells, {})

    assert to_latex(summary) == ""
    assert len(to_csv(summary).splitlines()) == 1
    assert "Missing: 5 of 5 cells" in to_markdown(summary)


def test_markdown_keeps_stand_ins_apart():
    stand_in = {"weights": "local", "stand_in": "two layers"}
    text = to_markdown(made(change=lambda c: stand_in if c.model == "llama2_7b" else {}))

    ours, _, theirs = text.partition("## Stand-ins")
    assert "tiny_llama_1m" in ours
    assert "llama-2-7b-hf (stand-in)" in theirs
    assert "| random |" in theirs
