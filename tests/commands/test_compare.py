"""``benchsuite compare``: two checkpoints of an embedded model beside it, in every form."""

import contextlib
import io
import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from benchsuite import catalog
from benchsuite.commands.main import main
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.models import ModelPool, load
from benchsuite.quantizers import checkpoint, gptq, rtn
from tests.models import tiny

MODEL = "tiny_llama_1m"
FORMS = ("markdown", "junit", "json", "html")
TEXT = "In the beginning there was <b>a script</b> | and `code`. "


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write their records below the folder that they run in."""
    monkeypatch.chdir(tmp_path)


def quantized(folder, quantize, *data, **options):
    with ModelPool().lease(catalog.model(MODEL)) as leased:
        quantize(leased.model, *data, **options)
        checkpoint.save(leased.model, folder, tokenizer=leased.tokenizer)
    (folder / "metadata.json").write_text(json.dumps({"model": MODEL}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The model rounded to 8 and to 3 bits, and 4 bits by GPTQ."""
    made = tmp_path_factory.mktemp("quantized")
    batch = torch.randint(2000, (4, 64), generator=torch.Generator().manual_seed(1))
    return {
        "w8": quantized(made / "w8", rtn.quantize, bits=8),
        "w3": quantized(made / "w3", rtn.quantize, bits=3),
        "gptq": quantized(made / "gptq", gptq.quantize, batch, bits=4),
    }


@pytest.fixture(scope="module")
def compared(folders, tmp_path_factory):
    """Run the command once: its text, and the files that it wrote."""
    out = tmp_path_factory.mktemp("out")
    words = ["compare", MODEL, str(folders["w8"]), str(folders["w3"]), "--tokens", "2048"]
    words += ["--seq-len", "128", "--questions", "closed_book,four_choices", "--n-questions", "16"]
    words += ["--margin", "perplexity=2%", "--margin", "accuracy:closed_book=30", "--no-speed"]
    words += ["--reports-dir", str(out / "reports")]
    for form in FORMS:
        words += [f"--{form}", str(out / form)]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(words) == 0
    return {"text": said.getvalue(), **{form: (out / form).read_text() for form in FORMS}}


@pytest.fixture(scope="module")
def told(compared):
    return json.loads(compared["json"])


def rows(candidate):
    return {row["label"]: row for row in candidate["rows"]}


@pytest.mark.stress
def test_fewer_bits_are_worse_and_eight_are_not(told):
    eight, three = told["candidates"]
    assert rows(three)["perplexity"]["verdict"]["outcome"] == "worse"
    assert rows(eight)["perplexity"]["verdict"]["outcome"] == "not_worse"
    assert (eight["outcome"] != "worse", three["outcome"]) == (True, "worse")
    assert eight["spread"]["mean"] < three["spread"]["mean"]
    assert rows(eight)["same top token"]["candidate"] > rows(three)["same top token"]["candidate"]
    assert three["disk_bytes"] < eight["disk_bytes"] < told["base"]["disk_bytes"]


def test_every_number_stands_beside_its_floor_and_its_interval(told):
    for candidate in told["candidates"]:
        for row in candidate["rows"]:
            assert row["floor"] is not None, row["label"]
            assert row["low"] <= row["difference"] <= row["high"], row["label"]
        assert (
            0 < candidate["floor_spread"]["mean"] < 0.01 * told["candidates"][1]["spread"]["mean"]
        )


def test_the_numbers_are_those_of_the_studies(told, folders):
    model, tokenizer = load(catalog.model(MODEL)).model, load(catalog.model(MODEL)).tokenizer
    from benchsuite.corpora import load_text

    text = load_text("embedded_text", "test").joined[: 16 * 2048]
    ids = tokenize_protocol(tokenizer, text)[:2048]
    found = rows(told["candidates"][1])["perplexity"]
    assert found["base"] == pytest.approx(perplexity(model, ids, seq_len=128).value, rel=1e-5)
    three = checkpoint.load(folders["w3"])
    assert found["candidate"] == pytest.approx(perplexity(three, ids, seq_len=128).value, rel=1e-5)
    ratio = found["candidate"] / found["base"]
    assert found["difference"] == pytest.approx(100 * (ratio - 1), rel=1e-4)


def test_margins_are_those_declared(told):
    found = rows(told["candidates"][0])
    assert found["perplexity"]["margin"] == "2%"
    assert found["accuracy:closed_book"]["margin"] == "30 points"
    assert found["accuracy:four_choices"]["margin"] == "1 point"


def test_the_items_give_the_rows(told):
    for candidate in told["candidates"]:
        items = {each["metric"]: each for each in candidate["items"]}
        asked = items["accuracy:closed_book"]
        assert len(asked["ids"]) == 16
        row = rows(candidate)["accuracy:closed_book"]
        off = 100 * (np.mean(asked["candidate"]) - np.mean(asked["base"]))
        assert row["difference"] == pytest.approx(off)
        flipped = [flip for flip in candidate["flips"] if flip["task"] == "closed_book"]
        assert len(flipped) == np.sum(np.array(asked["candidate"]) != asked["base"])
        assert row["verdict"]["lost"] == sum(flip["lost"] for flip in flipped)


def test_the_terminal_has_one_screen_a_candidate(compared):
    text = compared["text"]
    assert sum(line.startswith("metric ") for line in text.splitlines()) == 2
    assert "one quantization: another seed may differ" in text
    assert max(map(len, text.splitlines())) < 200
    assert len(text.splitlines()) < 60


def test_junit_has_a_case_a_judged_metric(compared, told):
    suites = ET.fromstring(compared["junit"]).findall("testsuite")
    for suite, candidate in zip(suites, told["candidates"], strict=True):
        judged = [row for row in candidate["rows"] if row["verdict"]]
        assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(judged)
        outcomes = [row["verdict"]["outcome"] for row in judged]
        assert int(suite.get("failures")) == outcomes.count("worse")
        assert int(suite.get("skipped")) == outcomes.count("undecided")


def test_markdown_has_a_table_and_a_model_card(compared):
    page = compared["markdown"]
    assert page.count("| metric | base | candidate |") == 2
    lines = [line for line in page.splitlines() if line.startswith("| perplexity")]
    assert {line.count("|") for line in lines} == {8, 6}  # the comment's, the card's
    assert page.count("```markdown") == 2
    card = page.partition("```markdown")[2].partition("```")[0]
    for said in (
        "chunks of 128 tokens",
        "items: perplexity 16",
        "perplexity 2%",
        "cpu: ",
        "torch ",
    ):
        assert said in card


def test_the_page_shows_the_worst_chunks_and_flipped_answers(compared, told):
    page = compared["html"]
    assert "<script" not in page
    for candidate in told["candidates"]:
        assert f"chunk {candidate['worst_chunks'][0]['index']}: KL" in page
        for flip in candidate["flips"]:
            assert flip["id"] in page


def test_a_checkpoint_alone_is_compared_with_its_original(folders, capsys):
    assert main(["compare", str(folders["gptq"]), "--tokens", "512", "--seq-len", "64"]) == 0
    said = capsys.readouterr().out
    assert f"base      {MODEL}" in said
    assert f"candidate {folders['gptq']}" in said
    assert "tokens/s" in said


@pytest.mark.stress
def test_layers_are_ranked_by_what_each_alone_costs(folders, tmp_path, capsys):
    words = ["compare", MODEL, str(folders["w3"]), "--tokens", "512", "--seq-len", "64"]
    assert main([*words, "--layers", "--no-speed", "--json", str(tmp_path / "json")]) == 0
    (candidate,) = json.loads((tmp_path / "json").read_text())["candidates"]
    found = candidate["layers"]
    assert len(found) == 4 * 7
    costs = [layer["kl"] for layer in found]
    assert costs == sorted(costs, reverse=True)
    assert 0 < costs[-1] < costs[0] < candidate["spread"]["mean"] * 1.5
    assert all(0.1 < layer["error"] < 0.5 for layer in found)
    assert "layers alone" in capsys.readouterr().out


@pytest.mark.stress
def test_candidates_of_one_recipe_are_seeds_where_the_user_says_so(folders, tmp_path, capsys):
    words = ["compare", MODEL, str(folders["w3"]), str(folders["gptq"]), "--seeds", "--no-speed"]
    words += ["--tokens", "1024", "--seq-len", "64", "--json", str(tmp_path / "json")]
    assert main(words) == 0
    told = json.loads((tmp_path / "json").read_text())
    over = {one["metric"]: one for one in told["over_seeds"]["metrics"]}["kl"]
    alone = [candidate["spread"]["mean"] for candidate in told["candidates"]]
    assert over["seeds"] == pytest.approx(alone)
    assert over["loss"] == pytest.approx(np.mean(alone))
    # The seeds differ far more than the chunks do, and two of them have one degree of freedom.
    assert over["high"] - over["loss"] > 12 * np.std(alone, ddof=1) / 2**0.5
    said = capsys.readouterr().out
    assert "over 2 seeds:" in said
    assert "another seed may differ" not in said


def test_a_copy_is_no_other_seed(folders, tmp_path, capsys):
    copy = shutil.copytree(folders["w3"], tmp_path / "copy")
    words = ["compare", MODEL, str(folders["w3"]), str(copy), "--no-speed"]
    words += ["--tokens", "512", "--seq-len", "64"]
    assert main([*words, "--seeds"]) == pytest.ExitCode.USAGE_ERROR
    assert "candidates 1 and 2 agree in every item" in capsys.readouterr().err
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--group", "8"], "--group 8 makes one item of the 8 chunks of 64 tokens"),
        (["--seq-len", "1"], "a chunk of one token predicts nothing"),
    ],
)
def test_chunks_that_no_interval_can_be_made_of_are_refused(words, told, folders, capsys):
    both = [MODEL, str(folders["w3"]), "--tokens", "512", "--seq-len", "64", *words]
    for command in ("compare", "gate"):
        assert main([command, *both]) == pytest.ExitCode.USAGE_ERROR
        assert told in capsys.readouterr().err


def test_other_vocabularies_have_no_kl_and_answers_alone(tmp_path, capsys):
    other = tiny.checkpoint(tmp_path / "other")
    words = ["compare", MODEL, str(other), "--tokens", "512", "--seq-len", "64", "--no-speed"]
    assert main(words) == pytest.ExitCode.USAGE_ERROR
    assert "cannot be compared over a text" in capsys.readouterr().err
    assert main([*words, "--questions", "closed_book", "--n-questions", "4"]) == 0
    said = capsys.readouterr().out
    assert "not compared: the vocabularies differ" in said
    assert "accuracy:closed_book" in said
    assert "perplexity  " not in said


def test_a_text_of_ones_own_may_hold_anything(tmp_path, folders, capsys):
    text = tmp_path / "own.txt"
    text.write_text(TEXT * 60)
    page = tmp_path / "page.html"
    words = ["compare", MODEL, str(folders["w3"]), "--text", str(text), "--seq-len", "64"]
    assert main([*words, "--tokens", "512", "--no-speed", "--html", str(page)]) == 0
    assert "own.txt: 8 chunks of 64 tokens" in capsys.readouterr().out
    assert "&lt;b&gt;" in page.read_text()
    assert "<b>a" not in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([MODEL, "nowhere"], "'nowhere' is neither a catalogued model nor a folder"),
        ([MODEL, MODEL, "--text", "nothing"], "no file of that name is here"),
        ([MODEL, MODEL, "--questions", "arc_easier"], "Did you mean 'arc_easy'"),
        ([MODEL, MODEL, "--seq-len", "4096"], "the model knows 512 positions"),
        ([MODEL, MODEL, "--tokens", "512", "--seq-len", "512"], "an interval needs two"),
        ([MODEL, MODEL, "--margin", "perplexity"], "--margin 'perplexity' cannot be read"),
        ([MODEL, MODEL, "--tokens", "-1"], "--tokens is -1"),
        ([MODEL, MODEL, "--html", "nowhere/page.html"], "there is no folder nowhere"),
        ([MODEL, MODEL, "--device", "tpu"], "there is no device 'tpu'"),
        ([MODEL, MODEL, "--seeds"], "there is one"),
        (["tiny_llama_4m", MODEL, MODEL], f"{MODEL} is given 2 times as a candidate"),
        (["nowhere"], "no folder of a checkpoint is there"),
    ],
)
def test_what_is_mistyped_is_one_paragraph(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == pytest.ExitCode.USAGE_ERROR
    said = capsys.readouterr()
    assert told in said.err
    assert not said.out
    assert not list(tmp_path.iterdir())


def test_copies_of_one_model_keep_their_names_and_say_what_decides(tmp_path, capsys):
    for name in ("first", "second"):
        tiny.checkpoint(tmp_path / name)
    words = ["compare", "first", "second", "--tokens", "192", "--seq-len", "64", "--no-speed"]

    assert main(words) == 0

    said = capsys.readouterr().out
    assert "candidate second:" in said
    assert "undecided (5 would decide)" in said
    assert "next token right" in said
    shares = [line for line in said.splitlines() if line.startswith(("same top", "next token"))]
    assert len(shares) == 2
    assert not any("exact" in line for line in shares)


@pytest.mark.parametrize("larger", ["base", "candidate"])
def test_ids_that_one_side_alone_predicts_are_told(larger, tmp_path, capsys):
    """Its perplexity moves while the KL is none: the rows that it has beside those of the other."""
    for side in ("base", "candidate"):
        with ModelPool().lease(catalog.model(MODEL)) as leased:
            if side == larger:
                table = leased.model.get_input_embeddings().weight
                wide = torch.cat([table, table[:64]])
                leased.model.resize_token_embeddings(len(wide), mean_resizing=False)
                leased.model.get_input_embeddings().weight = torch.nn.Parameter(wide)
                leased.model.tie_weights()
            leased.model.save_pretrained(tmp_path / side)
            leased.tokenizer.save_pretrained(tmp_path / side)
    words = ["compare", "base", "candidate", "--tokens", "1024", "--seq-len", "128", "--no-speed"]
    assert main([*words, "--json", "out.json"]) == 0
    who = "candidate: base" if larger == "base" else "candidate: it"
    said = f"{who} predicts 64 ids more than the other: its perplexity pays for what they get, and"
    assert said in capsys.readouterr().out
    by_label = rows(json.loads((tmp_path / "out.json").read_text())["candidates"][0])
    assert by_label["kl"]["difference"] < 1e-9
    assert abs(by_label["perplexity"]["difference"]) > 1
