"""``benchsuite check``: what it reads, what it says, with which status it ends."""

import json

import pytest

from benchsuite.commands.main import main

LATENT = """
gsm8k:
  accuracy_mean: 82.45
  accuracy_std: 0.73
  forward_passes_mean: 48.20
  forward_passes_std: 1.1
  n_seeds: 3
"""
FLAT = {"mean": [5.72, 5.79], "std": [0.08, 0.12], "n": 5, "t": -1.085, "p": 0.3094}
CSV = "method,mean,std,cv_percent\nrandom,5.79,0.12,{cv}\ncola_zero,5.72,0.08,1.4\n"


@pytest.mark.parametrize(
    ("name", "text", "status", "words"),
    [
        ("flat.json", json.dumps(FLAT), 0, "2 relations between numbers tested"),
        ("flat.json", json.dumps(FLAT | {"p": 0.03}), 1, "1 contradiction"),
        ("rows.json", json.dumps([FLAT, FLAT]), 0, "4 relations between numbers tested"),
        ("list.json", "[1, 2]", 5, "nothing was checked"),
        ("other.json", json.dumps({"foo": 1}), 5, "nothing was checked"),
        ("other.json", json.dumps({"a": {"std": -1, "mean": 2}}), 1, "1 impossible number"),
        ("summary.yaml", LATENT, 0, "1 relation between numbers tested"),
        ("summary.yaml", LATENT.replace("0.73", "73"), 1, "std 73 is impossible"),
        ("table.csv", CSV.format(cv=2.1), 0, "cv from std and mean 2"),
        ("table.csv", CSV.format(cv=3.1), 1, "row 1 (random): cv 3.1 %"),
        ("table.tsv", CSV.format(cv=3.1).replace(",", "\t"), 1, "row 1 (random): cv 3.1 %"),
        ("empty.csv", "", 5, "nothing was checked"),
        ("huge.json", f'{{"mean": 1{"0" * 400}, "std": 1.0, "n": 3}}', 5, "nothing was checked"),
        ("twice.json", '{"mean": 5.0, "std": 1.0, "mean": 6.0}', 4, "'mean' is there twice"),
        ("twice.yaml", "a: {mean: 5, std: 1, mean: 6}", 4, "'mean' is there twice"),
        ("twice.csv", "mean,std,mean\n5,1,6\n", 4, "two columns 'mean'"),
    ],
)
def test_the_status_says_what_was_found(tmp_path, capsys, name, text, status, words):
    path = tmp_path / name
    path.write_text(text)

    assert main(["check", str(path)]) == status
    assert words in "".join(capsys.readouterr())


def test_a_file_of_which_nothing_was_read_spoils_the_others_pass(tmp_path):
    good, other = tmp_path / "good.json", tmp_path / "other.json"
    good.write_text(json.dumps(FLAT))
    other.write_text("{}")

    assert main(["check", str(good), str(other)]) == 5
    assert main(["check", str(good)]) == 0


def test_the_number_of_seeds_can_be_told(tmp_path, capsys):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"t": -1.285, "p": 0.2431, "d": -0.645}))

    assert main(["check", str(path), "--n", "5"]) == 1
    assert "with n = 5 an arm" in capsys.readouterr().out


def test_what_is_no_yaml_is_refused(tmp_path, capsys):
    path = tmp_path / "summary.yaml"
    path.write_text("a: [1,")

    assert main(["check", str(path)]) == 4
    assert "is not YAML" in capsys.readouterr().err
