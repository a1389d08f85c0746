"""Reports folders that cannot be trusted or written: what is wrong is named, the rest works."""

import json
import sys

import pytest

from benchsuite.records.forms import as_text, sealed
from tests.harness.disks import mounts
from tests.harness.shaky import BODY, CONFTEST

ESCAPE = "\x1b[31mred\x1b]0;title\x07 \u202e"
FILE = "test_shaky.py"
SHOWN = r"\x1b[31mred\x1b]0;title\x07 \u202e"
RAISES = f"raise BenchsuiteError({ESCAPE!r} + ' <b>', 'a file')"
TRACEBACK = f"raise ValueError({ESCAPE!r})"


@pytest.fixture
def shaky(pytester):
    """Run the eight-cell study, one of whose cells does ``mischief``, and commands on it."""

    def run(mischief: str, *args: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_shaky=BODY.replace("{mischief}", mischief))
        command = ("-p", "no:cacheprovider", "--color=no", *args)
        return pytester.runpytest_subprocess(FILE, *command)

    run.command = lambda *args, before=(): pytester.run(
        *before, sys.executable, "-m", "benchsuite", *args
    )
    run.records = pytester.path / "reports/store/records"
    return run


def said(result):
    return result.stdout.str() + result.stderr.str()


def is_quiet(text):
    return not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


@pytest.mark.stress
def test_escape_sequences_are_shown_as_text(shaky, pytester):
    failed = shaky(RAISES)
    assert SHOWN in said(failed)
    status, claims = (shaky.command(name, FILE) for name in ("status", "claims"))
    assert SHOWN in said(status)
    page = (pytester.path / "reports/index.html").read_text()
    assert SHOWN in page
    traced = shaky(TRACEBACK)
    assert SHOWN in said(traced)
    for text in (said(failed), said(status), said(claims), said(traced), page):
        assert is_quiet(text)


@pytest.mark.stress
def test_a_file_name_and_a_stand_in_are_shown_as_text(shaky, pytester):
    shaky(f"record.provenance(stand_in={ESCAPE!r})")
    (pytester.path / f"reports/store/records/{'a' * 40}\x1b[31m.json").write_text("{}")
    for args in (("claims", FILE), ("report", FILE), ("report", "reports", "--reports-dir=both")):
        result = shaky.command(*args)
        assert result.ret == 0
        assert is_quiet(said(result))
    assert is_quiet((pytester.path / "both/index.html").read_text())


@pytest.mark.stress
@pytest.mark.skipif(not mounts(), reason="this machine lets no user mount")
def test_a_read_only_folder_with_damage_in_it_can_be_asked(shaky):
    shaky("pass")
    one, two, three, *_ = sorted(shaky.records.glob("*.json"))
    one.write_text("{")
    two.unlink()
    two.mkdir()
    body = json.loads(three.read_text())
    three.write_bytes(as_text(sealed(body | {"cell": []})))
    script = 'mount --bind reports reports && mount -o remount,bind,ro reports && exec "$@"'
    read_only = ("unshare", "-rm", "sh", "-c", script, "sh")
    results = {
        name: shaky.command(name, FILE, before=read_only) for name in ("status", "claims", "report")
    }
    assert {name: result.ret for name, result in results.items()} == {
        **{"status": 0, "claims": 0},
        "report": pytest.ExitCode.USAGE_ERROR,
    }
    for result in results.values():
        assert "Traceback" not in said(result)
        for path in (one, two, three):
            assert f"not used: {path.name}" in said(result)
    results["status"].stdout.fnmatch_lines(["5 done, 3 missing"])
    assert "shaky: 5 of 8 cells" in said(results["claims"])
    assert "the reports folder cannot be written" in said(results["report"])


def test_a_record_of_a_later_version_blocks_its_cell_alone(shaky):
    shaky("pass")
    path = sorted(shaky.records.glob("*.json"))[0]
    path.write_bytes(as_text(sealed(json.loads(path.read_text()) | {"schema_version": 9})))
    shaky.command("status", FILE).stdout.fnmatch_lines(
        ["blocked *a later version of benchsuite wrote it*", "*7 done*"]
    )
    result = shaky("pass")
    result.stdout.fnmatch_lines(["*a later version of benchsuite wrote it*"])
    assert path.exists()
    assert result.parseoutcomes()["cached"] == 7
