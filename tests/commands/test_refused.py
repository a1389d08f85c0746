"""What is mistyped or empty is refused: one paragraph, status 4, and nothing is made."""

import importlib
import io
import re

import pytest

from benchsuite.commands.main import COMMANDS, GROUPS, OF_PYTEST, main
from benchsuite.harness.options import OPTIONS
from benchsuite.records.files import write_whole

ABSENT = "there is no folder nowhere. Name another with --reports-dir, or measure cells first"
TRAINING = ["train", "--config", "tiny", "--method", "no_cot", "--out", "out"]


def again(words, told):
    """A second spelling of what is refused above, for the long rounds: each collects all cells."""
    return pytest.param(words, told, marks=pytest.mark.stress)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an empty folder and an empty summary, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("not JSON")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "nowhere"], "there is no nowhere. Name a file or a folder"),
        (["report", "empty"], "no cell is selected. See what -k, -m and the named files choose"),
        (["report", "--reports-dir", "nowhere"], ABSENT),
        again(["report", "--reports-dir", "empty"], "empty holds no records"),
        again(["claims", "--reports-dir", "nowhere"], ABSENT),
        (["claims", "--reports-dir=empty"], "empty holds no records"),
        again(["claims"], "there is no folder reports"),
        again(["status", "--reports-dir", "nowhere"], ABSENT),
        again(["status", "nowhere"], "there is no nowhere"),
        (["status", "-k", "tiny_lama_1m"], "Did you mean 'tiny_llama_1m'?"),
        (["status", "-m", "cell(modle='tiny_llama_1m')"], "no 'modle'. Did you mean 'model'?"),
        (["estimate", "-k", "nothing_like_it"], "no cell is selected"),
        (["list", "quantizer"], "Did you mean 'quantizers'?"),
        (["export", "nowhere", "--to", "out"], "there is no folder nowhere"),
        (["export", "empty", "--to", "out"], "empty holds no records"),
        (["export", "--to", "text.txt"], "there is something that is no export (text.txt)"),
        (["export", "empty"], "required: --to"),
        (["check", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["check", "text.txt"], "text.txt is not JSON"),
        (["check", "empty"], "cannot read empty: Is a directory"),
        (["check"], "required: FILE. `benchsuite check --help` says what it takes"),
        (["trend", "empty", "empty", "--page", "text.txt"], "text.txt is there, and is no page"),
        (["trend", "empty", "empty", "--page", "empty"], "empty is a folder. Name a file"),
        (["diff", "nowhere", "empty"], "there is no folder nowhere"),
        (["diff", "empty", "empty"], "empty holds no records"),
        (["diff", "empty"], "required: NEW"),
        (["reproduce", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["reproduce", "text.txt"], "text.txt is not a whole record"),
        (["reproduce"], "required: RECORD.json"),
        (["verify", "nowhere"], "'nowhere' is neither a catalogued model nor a folder"),
        (["verify", "empty"], "'empty' is neither a catalogued model nor a folder"),
        (["compare", "empty"], "empty does not say which model it was made of"),
        (["compare", "empty", "empty"], "'empty' is neither a catalogued model nor a folder"),
        (["compare", "a", "b", "c"], "'a' is neither a catalogued model nor a folder"),
        (["gate", "nowhere", "empty"], "'nowhere'"),
        (["gate", "nowhere", "empty", "--samples"], "cannot read nowhere"),
        (["compare", "--samples", "empty", "empty"], "empty holds no samples_*.jsonl"),
        (["determinism", "nowhere"], "cannot read nowhere: No such file or directory"),
        (["determinism"], "required: FILE"),
        (["train", "--method", "no_cot"], "required: --config, --out"),
        ([*TRAINING, "--config", "nowhere"], "unknown configuration: 'nowhere'"),
        ([*TRAINING, "--start-from", "nowhere"], "nowhere/model.safetensors cannot be read"),
        ([*TRAINING, "--local", "gsm8k=nowhere"], "--local gsm8k: there is no /"),
        ([*TRAINING, "--evaluate", "nothing"], "unknown task: 'nothing'"),
        ([*TRAINING, "--seed", "one"], "invalid int value: 'one'"),
    ],
)
def test_what_is_mistyped_or_empty_is_refused_and_nothing_is_made(words, told, folder, capsys):
    importlib.import_module(f"benchsuite.commands.{COMMANDS[words[0]][0].partition(':')[0]}")
    capsys.readouterr()  # what libraries say when they are imported
    before = sorted(folder.rglob("*"))

    status = main(words)

    said = capsys.readouterr()
    assert status == pytest.ExitCode.USAGE_ERROR
    assert said.err.startswith(f"benchsuite {words[0]}: ")
    assert said.err.count("\n") == 1
    assert told in said.err
    assert not said.out
    assert sorted(folder.rglob("*")) == before


def test_status_of_a_fresh_folder_says_what_is_missing_and_makes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(["status", "-k", "tiny_llama_1m and rtn_w3 and seed42"]) == 0
    assert capsys.readouterr().out.endswith("1 missing\n")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_takes(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: benchsuite {command} ")
    if command in OF_PYTEST:
        assert {option.flag for option in OPTIONS} <= set(said.split())


def test_help_lists_every_command_once_and_in_a_group(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z]+) +\S", said, flags=re.M)
    assert sorted(listed) == sorted(COMMANDS)
    assert [line.rstrip(":") for line in said.split("\n") if line.rstrip(":") in GROUPS] == [
        *GROUPS
    ]
    assert "Further:" not in said
    assert max(map(len, said.split("\n"))) <= 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lsit"], "unknown command: 'lsit'. Did you mean 'list'?"),
        ([], "no command is given. `benchsuite --help` lists the commands"),
        (["--quiet"], "unrecognized arguments: --quiet. `benchsuite --help` lists the commands"),
    ],
)
def test_a_command_that_is_none_is_refused(words, told, capsys):
    assert main(words) == pytest.ExitCode.USAGE_ERROR
    assert capsys.readouterr().err.startswith(f"benchsuite: {told}")


@pytest.mark.parametrize(
    "words",
    [
        ["report", ""],
        ["export", "", "--to", "out"],
        ["export", "empty", "--to", " "],
        ["status", "--reports-dir", ""],
        ["diff", "", ""],
        ["watch", "--reports-dir", ""],
        ["gate", "", "tiny_llama_1m"],
    ],
)
def test_an_empty_word_is_not_taken_for_this_folder(folder, capsys, words):
    before = sorted(folder.rglob("*"))
    assert main(words) == 4
    assert " is empty. Name it, or leave it out" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_an_empty_option_of_pytest_is_refused(folder, capsys):
    assert main(["status", "--reports-dir="]) == 4
    assert "--reports-dir has an empty value" in capsys.readouterr().err


def test_closed_streams_are_no_error(folder, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["completion", "bash"]) == 0


def test_a_stream_that_lacks_a_character_spells_it_out(folder, monkeypatch):
    """As that of ``LC_ALL=C`` does."""
    (folder / "größe.json").write_text("{}")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["check", "größe.json"]) == 5
    assert stream.buffer.getvalue().startswith(rb"gr\xf6\xdfe.json: ")


def test_what_cannot_be_written_is_named_as_it_was_given(folder):
    with pytest.raises(OSError, match="Is a directory") as caught:
        write_whole(folder / "empty", b"page")
    assert caught.value.filename == str(folder / "empty")


def test_an_interrupted_command_ends_in_a_line(folder, capsys, monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchsuite.commands.completion.completion", interrupted)
    assert main(["completion", "bash"]) == 130
    assert capsys.readouterr().err == "benchsuite completion: interrupted\n"


def test_ctrl_c_while_the_cells_are_collected_is_no_failed_collection(folder, capsys):
    (folder / "test_slow.py").write_text("raise KeyboardInterrupt\n")
    assert main(["status", "test_slow.py"]) == 130
    assert capsys.readouterr().err == "benchsuite status: interrupted\n"
