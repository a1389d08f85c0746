"""A disk that takes no more, or nothing at all: what is measured is kept, the rest is told."""

import json
import sys

import pytest

from tests.harness.disks import mounts
from tests.harness.shaky import BODY, CONFTEST

FILLS = """
            with open("reports/ballast", "wb", 0) as ballast:
                while ballast.write(bytes(4096)) == 4096:
                    pass
"""


pytestmark = pytest.mark.skipif(not mounts(), reason="this machine lets no user mount a tmpfs")


@pytest.fixture
def on_small_disk(pytester):
    """Run eight cells, of which one does ``mischief``, with the reports on a disk of 32 MiB."""
    pytester.makeconftest(CONFTEST)
    (pytester.path / "reports").mkdir()

    def run(mischief: str, *args: str, options: str = "size=32m", then: str = "true"):
        pytester.makepyfile(test_shaky=BODY.replace("            {mischief}", mischief))
        script = f'mount -t tmpfs -o {options} none reports && {{ "$@"; s=$?; {then}; exit $s; }}'
        pytest_command = [sys.executable, "-m", "pytest", "test_shaky.py", "-p", "no:cacheprovider"]
        return pytester.run("unshare", "-rm", "sh", "-c", script, "sh", *pytest_command, *args)

    return run


# With two workers the other one's cell meets the full disk wherever it happens to be: a round.
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.stress)])
def test_a_disk_full_at_the_end_of_a_cell_fails_it_and_stops_with_the_rest_kept(
    on_small_disk, pytester, workers
):
    result = on_small_disk(FILLS, "-n", workers, then="rm reports/ballast; cp -r reports kept")
    assert result.ret != 0
    output = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in output
    # Which of the two it is depends on who takes the last bytes.
    told = ("its record could not be kept", "the disk is full in stage")
    assert any(f"toy_a-odd-seed2: {how}" in output for how in told)
    assert "No space left on device" in output
    records = [json.loads(p.read_text()) for p in (pytester.path / "kept/store/records").iterdir()]
    assert {record["outcome"] for record in records} == {"passed"}
    passed = result.parseoutcomes()["passed"]
    assert len(records) == passed
    assert not list((pytester.path / "kept").rglob(".draft-*"))


@pytest.mark.stress
def test_no_cell_is_begun_on_a_disk_without_room_for_its_record(on_small_disk):
    result = on_small_disk("            pass", options="size=8m")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*MiB are free, and a cell begins with 16 for its record*", "*The same command resumes*"]
    )


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.stress)])
def test_a_read_only_reports_folder_is_told_before_any_cell(on_small_disk, workers):
    result = on_small_disk("            pass", "-n", workers, options="ro")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot be written: Read-only file system*--reports-dir*"])
