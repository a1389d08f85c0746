"""A comparison is a record: the same command is served from it, and a broken one goes on."""

import json
from types import SimpleNamespace

import pytest

from benchsuite.catalog import Sources
from benchsuite.commands.main import main
from benchsuite.commands.recording import asked_of_gate, asked_of_pairs
from benchsuite.comparing import questions
from benchsuite.comparing.measured import Beside, Settings
from benchsuite.errors import CorruptRecord
from benchsuite.records.comparisons import Comparisons
from benchsuite.records.plain_data import as_json, of_json
from tests.models import tiny

MODEL, OTHER = "tiny_llama_1m", "tiny_llama_4m"
WORDS = ["compare", MODEL, OTHER, "--tokens", "512", "--seq-len", "64", "--no-speed"]
ASKED = ["--questions", "closed_book,four_choices", "--n-questions", "4"]

pytestmark = pytest.mark.usefixtures("folder")


def records(folder):
    return sorted((folder / "reports/store/comparisons").glob("*.json"))


def test_the_same_command_is_served_from_the_record(folder, done, capsys):
    files = [f"--json={folder}/first.json", f"--markdown={folder}/first.md"]
    assert main([*WORDS, *ASKED, *files]) == 0
    first = capsys.readouterr().out
    assert len(done) == 7  # the text; two sets by either model, and by the base again
    files = [f"--json={folder}/second.json", f"--markdown={folder}/second.md"]
    assert main([*WORDS, *ASKED, *files]) == 0
    second = capsys.readouterr().out
    assert len(done) == 7
    assert second.startswith(first)
    assert "from the record of 20" in second
    assert "--rerun measures again" in second
    assert (folder / "first.json").read_text() == (folder / "second.json").read_text()
    assert (folder / "first.md").read_text() == (folder / "second.md").read_text()
    assert not list((folder / "reports/store/unfinished").iterdir())


def test_another_margin_is_judged_from_the_same_record(folder, done, capsys):
    found = []
    for margin in ("0.01", "10"):
        main([*WORDS, "--margin", f"kl={margin}"])
        lines = capsys.readouterr().out.splitlines()
        (line,) = (line for line in lines if line.startswith("kl "))
        found.append(line.split("nats")[-1].strip())
    assert found == ["worse", "not worse"]
    assert done == ["text"]


@pytest.mark.stress
def test_a_new_candidate_is_measured_beside_the_recorded_one(folder, done):
    main(WORDS)
    main([*WORDS[:3], MODEL, *WORDS[3:]])
    assert done == ["text", "text"]
    assert len(records(folder)) == 2


@pytest.mark.stress
def test_rerun_measures_again_and_overwrites_nothing(folder, done, capsys):
    main(WORDS)
    (first,) = records(folder)
    content = first.read_bytes()
    main([*WORDS, "--rerun"])
    assert done == ["text", "text"]
    assert f"{OTHER}: measured again, the same bits as the record of" in capsys.readouterr().out
    assert {path.name.partition(".")[2] for path in records(folder)} == {"json", "rerun-1.json"}
    assert first.read_bytes() == content


def test_a_broken_run_goes_on_where_it_ended(folder, done, monkeypatch):
    ask, asked = questions.ask, []

    def breaking(subject, each, **options):
        if subject.name == OTHER and each.name == "four_choices":
            raise KeyboardInterrupt
        return ask(subject, each, **options)

    with monkeypatch.context() as broken:
        broken.setattr(questions, "ask", breaking)
        assert main([*WORDS, *ASKED]) == 130
    assert not records(folder)
    assert list((folder / "reports/store/unfinished").iterdir())
    before, done[:] = list(done), asked
    assert main([*WORDS, *ASKED]) == 0
    assert done == [f"{OTHER} four_choices"]
    assert len(before) == 6
    assert not list((folder / "reports/store/unfinished").iterdir())
    # What was measured in two runs is what one would have given.
    resumed = json.loads(records(folder)[0].read_text())["results_sha256"]
    main([*WORDS, *ASKED, "--rerun"])
    assert {json.loads(p.read_text())["results_sha256"] for p in records(folder)} == {resumed}


@pytest.mark.stress
def test_other_weights_in_the_same_folder_are_measured(folder, done):
    model = tiny.checkpoint(folder / "model")
    words = ["compare", str(model), str(model), "--tokens", "512", "--seq-len", "64", "--no-speed"]
    main(words)
    tiny.checkpoint(folder / "model", seed=7)
    main(words)
    assert done == ["text", "text"]
    assert len(records(folder)) == 2
    assert str(folder) not in records(folder)[0].read_text()


@pytest.mark.stress
def test_a_damaged_record_is_moved_aside_and_measured_again(folder, done, capsys):
    main(WORDS)
    (path,) = records(folder)
    body = json.loads(path.read_text())
    body["found"]["measured"]["items"][0]["candidate"][0] += 1
    path.write_text(json.dumps(body))
    main(WORDS)
    assert done == ["text", "text"]
    assert "moved aside" in capsys.readouterr().out
    assert len(list((folder / "reports/store/moved_aside").iterdir())) == 1


def test_every_record_is_read_back(folder):
    main([*WORDS, *ASKED])
    (found,) = Comparisons(folder / "reports").all()
    assert found.inputs["seq_len"] == 64
    assert found.environment["device_kind"] == "cpu"
    measured = found.found.measured
    assert [items.metric for items in measured.items][:2] == ["nll", "kl"]
    assert len(measured.items[0].ids) == 8
    assert of_json(Beside, as_json(found.found)).measured.spread == measured.spread


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    main([*WORDS, f"--reports-dir={folder / 'reports'}"])
    return records(folder)[0].read_text()


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("seq_len",), "64", "seq_len is '64'"),
        (("seq_len",), True, "seq_len is 'True'"),
        (("base", "disk_bytes"), 1.5, "base.disk_bytes is"),
        (("measured", "items", 0, "base"), ["a"], r"items\[0\].base is no list of numbers"),
        (("measured", "items", 0, "base"), [1.0], "8 ids"),
        (("measured", "flips"), None, "measured.flips is"),
        (("measured", "more"), 1, "measured has other fields: more"),
    ],
)
def test_a_field_of_another_kind_is_named(recorded, where, value, told):
    body = json.loads(recorded)["found"]
    inner = body
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    with pytest.raises(CorruptRecord, match=told):
        of_json(Beside, body)


def test_questions_behind_other_worked_examples_are_other_questions(folder):
    """A comparison was served from the record of the examples that a train file held before."""

    def asked(answer, shots=1):
        for split, index in (("test", 0), ("train", answer)):
            row = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": index}
            (folder / f"{split}.jsonl").write_text(json.dumps({"id": split, **row}) + "\n")
        sources = Sources(local={"four_choices": folder})
        sets = (questions.question_set("four_choices", 1, shots, sources),)
        settings = Settings(SimpleNamespace(digest="of the text"), 0, 0, sets)
        return json.dumps([asked_of_pairs(settings), asked_of_gate(settings)])

    assert asked(1) != asked(2)
    assert asked(1) == asked(1)
    assert asked(1, shots=0) == asked(2, shots=0)
