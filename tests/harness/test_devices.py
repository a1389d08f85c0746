"""GPUs for each process, taken by lock; shared GPUs and crowded sockets are told."""

import json
import os
from collections import defaultdict

import pytest

from benchsuite.harness.scheduling.devices import take_gpus
from benchsuite.records import environment
from tests.conftest import read_flat
from tests.harness.gpu_holder import Holder
from tests.harness.shaky import CONFTEST

ONE, TWO = "GPU-1c0ffee1-0000", "GPU-2badcafe-0000"
LISTED = f"""\
NVIDIA H200, 9.0, 143771, 570.1, {ONE}
NVIDIA GB10, 12.1, [N/A], 570.1, {TWO}
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an ``nvidia-smi`` that knows two GPUs first on the path, and locks of our own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"

    def say(text: str, status: int = 0) -> None:
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n")
        program.chmod(0o755)
        environment._installed_gpus.cache_clear()

    say(LISTED)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield say
    environment._installed_gpus.cache_clear()


def test_the_gpus_are_described_without_torch(smi):
    one, two = environment.gpus()
    assert (one.name, one.capability, one.driver, one.uuid) == (
        "NVIDIA H200",
        "sm_90",
        "570.1",
        ONE,
    )
    assert one.memory_bytes == 143771 * 2**20
    # Where the GPU has no memory of its own, the machine's.
    assert two.memory_bytes == environment.cpu().memory_bytes


def test_triton_counts_where_its_kernels_run(smi, monkeypatch):
    """A record made with its kernels does not stand for a cell without them, and on a CPU may."""

    def identity(device, triton):
        monkeypatch.setattr(environment, "version", {"triton": triton}.get)
        return environment.numeric_identity(environment.describe(device, threads=1))

    gpu = environment.gpus()[0]
    assert identity(gpu, "3.6.0") == identity(gpu, "3.6.0") != identity(gpu, "absent")
    assert identity(environment.cpu(), "3.6.0") == identity(environment.cpu(), "absent")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [TWO]),
        ("1,0", [TWO, ONE]),
        (TWO, [TWO]),
        (f"{TWO}, {ONE}", [TWO, ONE]),
        ("GPU-1c", [ONE]),
        ("", []),
        ("-1", []),
        ("0,7,1", [ONE]),
        ("0,-1,1", [ONE]),
        ("GPU-", []),
    ],
)
def test_the_users_choice_of_gpus_is_honoured(smi, monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.uuid for gpu in environment.gpus()] == expected


def test_an_nvidia_smi_that_fails_means_no_gpu(smi):
    smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9)
    assert environment.gpus() == ()
    assert take_gpus() is None


@pytest.fixture
def holder(smi):
    """Start processes that each take a GPU, or several, and keep them."""
    started: list[Holder] = []

    def start(count: int = 1) -> Holder:
        started.append(Holder(count))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def test_each_process_takes_a_gpu_of_its_own_and_a_replacement_the_freed_one(holder):
    first, second = holder(), holder()
    assert (first.uuid, second.uuid) == (ONE, TWO)
    assert not first.shares()
    first.kill()
    replacement = holder()
    assert (replacement.uuid, replacement.rank) == (ONE, 0)
    assert not second.shares()


def test_more_processes_than_gpus_share_evenly_and_know_it(holder):
    holders = [holder() for _ in range(4)]
    assert [(h.uuid, h.rank) for h in holders] == [(ONE, 0), (TWO, 0), (ONE, 1), (TWO, 1)]
    assert all(h.shares() for h in holders)
    holders[2].kill()
    assert [h.shares() for h in holders if h is not holders[2]] == [False, True, True]
    assert holder().uuid == ONE


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", TWO),
        pytest.param(TWO, TWO, marks=pytest.mark.stress),
        pytest.param("1,0", TWO, marks=pytest.mark.stress),
    ],
)
def test_a_process_takes_from_the_users_choice(holder, monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert holder().uuid == expected


def test_releasing_leaves_the_environment_as_it_was(smi, monkeypatch):
    for before in ("1,0", None):
        if before is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        taken = take_gpus()
        assert [os.environ["CUDA_VISIBLE_DEVICES"]] == [gpu.uuid for gpu in taken.gpus]
        assert environment.gpus() == taken.gpus
        taken.release()
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


FOUR = [f"GPU-f0u{number}-0000" for number in range(4)]
LISTED_FOUR = "".join(f"NVIDIA H200, 9.0, 143771, 570.1, {uuid}\n" for uuid in FOUR)


def test_a_process_takes_several_gpus_whole_and_the_least_used(smi, holder):
    smi(LISTED_FOUR)
    single, pair = holder(), holder(2)
    assert (single.uuids, pair.uuids) == (FOUR[:1], FOUR[1:3])
    assert not pair.shares()
    late = holder(2)
    assert (late.uuids, late.ranks) == ([FOUR[3], FOUR[0]], [0, 1])
    assert [one.shares() for one in (single, pair, late)] == [True, False, True]
    pair.kill()
    assert holder(2).uuids == FOUR[1:3]


def test_several_gpus_are_of_one_model_and_in_the_order_taken(smi, monkeypatch):
    smi(LISTED_FOUR.replace("H200", "H100", 1) + LISTED)
    assert take_gpus(2) is None  # the first one has no equal
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{FOUR[2]},{FOUR[0]},{FOUR[1]}")
    taken = take_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"{FOUR[2]},{FOUR[1]}"
    assert [gpu.uuid for gpu in environment.gpus()] == [gpu.uuid for gpu in taken.gpus]
    assert taken.of == 1
    taken.release()


# --- whole sessions

BODY = """
import os
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if cell.id == os.environ.get("CRASH"):
        with open("crashed", "w") as file:
            file.write(visible)
        os._exit(3)
    record.update(perplexity=1.5, process=os.getpid(), visible=visible)
"""


@pytest.fixture
def cells(smi, pytester):
    """Run eight cells that say which process and GPU they ran on; return their records."""

    def run(*args: str) -> list[dict]:
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_shaky=BODY)
        pytester.runpytest_subprocess("test_shaky.py", "-p", "no:cacheprovider", *args)
        folder = pytester.path / "reports/store/records"
        found = [read_flat(path) for path in folder.glob("*.json")]
        return [record for record in found if record["outcome"] == "passed"]

    return run


def by_process(records):
    found = defaultdict(set)
    for record in records:
        found[record["process"]].add(record["visible"])
    return dict(found)


@pytest.mark.parametrize("args", [("-n", "0"), pytest.param(("-n", "1"), marks=pytest.mark.stress)])
def test_a_lone_process_takes_the_first_gpu(cells, args):
    records = cells(*args)
    assert {r["visible"] for r in records} == {ONE}
    assert {r["environment"]["device"] for r in records} == {"NVIDIA H200"}
    assert {r["timings"]["contended"] for r in records} == {False}


def test_every_worker_has_a_gpu_of_its_own(cells):
    records = cells("-n", "2")
    assert sorted(by_process(records).values(), key=str) == [{ONE}, {TWO}]
    assert {r["timings"]["contended"] for r in records} == {False}


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", [{ONE}, {TWO}]),
        ("1", [{TWO}]),
        pytest.param(f"{TWO},{ONE}", [{ONE}, {TWO}], marks=pytest.mark.stress),
    ],
)
def test_auto_is_one_worker_per_visible_gpu(cells, monkeypatch, visible, expected):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert sorted(by_process(cells("-n", "auto")).values(), key=str) == expected


def test_auto_leaves_other_peoples_tests_their_processors(smi, pytester):
    smi(LISTED + LISTED.replace("-1c", "-3c").replace("-2b", "-4b") * 16)
    pytester.makepyfile(test_plain="def test_it():\n    pass\n")
    result = pytester.runpytest_subprocess("test_plain.py", "-n", "auto", "-p", "no:cacheprovider")
    assert "created: 34/34" not in result.stdout.str()
    result.assert_outcomes(passed=1)


def test_surplus_workers_share_and_their_timings_are_contended(cells):
    records = cells("-n", "3")
    processes = by_process(records)
    assert sorted(map(sorted, processes.values())) == [[ONE], [ONE], [TWO]]
    contended = defaultdict(set)
    for record in records:
        contended[record["process"]].add(record["timings"]["contended"])
    alone = next(process for process, gpus in processes.items() if gpus == {TWO})
    assert contended.pop(alone) == {False}
    assert {True} in contended.values()


def test_the_worker_that_replaces_a_crashed_one_takes_its_gpu(cells, pytester, monkeypatch):
    monkeypatch.setenv("CRASH", "toy_a-plain-seed1")
    records = cells("-n", "1")
    assert len(records) == 7
    assert (pytester.path / "crashed").read_text() == ONE
    assert list(by_process(records).values()) == [{ONE}]


def test_another_sessions_gpu_is_left_to_it(cells, holder):
    assert holder().uuid == ONE
    assert {r["visible"] for r in cells()} == {TWO}


def test_cells_on_the_cpu_and_ordinary_tests_leave_the_gpus_alone(cells, pytester):
    assert {r["visible"] for r in cells("--device", "cpu")} == {"all"}
    check = "def test_it():\n    assert 'CUDA_VISIBLE_DEVICES' not in os.environ\n"
    pytester.makepyfile(test_plain="import os\n\n" + check)
    pytester.runpytest_subprocess("test_plain.py").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--gpus-per-cell", "2"), "*--gpus-per-cell 2 was asked for and 1 of NVIDIA H200 can*"),
        (("--gpus-per-cell", "2", "--device", "cpu"), "*2 was asked for and none can*Set it to 1*"),
        (("--gpus-per-cell", "0", "-n", "auto"), "*--gpus-per-cell '0' is not a positive*"),
    ],
)
def test_more_gpus_for_a_cell_than_there_are_is_refused(smi, pytester, args, said):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=BODY)
    result = pytester.runpytest_subprocess("test_shaky.py", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_auto_is_a_worker_for_so_many_gpus_and_the_number_is_no_identity(cells, smi, pytester):
    smi(LISTED_FOUR)
    records = cells("-n", "auto", "--gpus-per-cell", "2")
    pairs = [{",".join(FOUR[:2])}, {",".join(FOUR[2:])}]
    used = list(by_process(records).values())
    # A worker that starts late may find no cell left.
    assert all(pair in pairs for pair in used)
    assert len(used) == len({min(pair) for pair in used})
    assert {r["environment"]["gpus"] for r in records} == {2}
    assert {r["timings"]["contended"] for r in records} == {False}
    again = pytester.runpytest_subprocess("test_shaky.py", "--gpus-per-cell", "4")
    again.stdout.fnmatch_lines(["*8 cached*"])


SHARING = """
from types import SimpleNamespace
import pytest
from benchsuite.models import replicas

@pytest.fixture
def model_pool(monkeypatch):
    def lease(entry, sources, may_stream):
        facts = dict(weights="random", stand_in=None, digest="", gguf_types=None, streamed=False)
        return SimpleNamespace(model=entry.name, release=lambda: None, **facts)
    return SimpleNamespace(lease=lease)

@pytest.mark.study("shaky")
def test_shaky(cell, model, record, shared):
    record.update(perplexity=1.5, devices=shared)

@pytest.fixture(autouse=True)
def shared(monkeypatch):
    told = []
    monkeypatch.setattr(replicas, "share_work", lambda model, devices: told.extend(devices))
    return told
"""


def test_a_leased_model_is_worked_on_by_the_cells_gpus(smi, pytester):
    smi(LISTED_FOUR)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=SHARING)
    args = ("test_shaky.py", "--gpus-per-cell=3", "-k", "toy_a and plain and seed1")
    pytester.runpytest_subprocess(*args).assert_outcomes(passed=1, deselected=7)
    (record,) = (read_flat(p) for p in (pytester.path / "reports/store/records").glob("*.json"))
    assert record["devices"] == ["cuda:0", "cuda:1", "cuda:2"]


MEETING = """
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    if cell.id == "toy_a-plain-seed1":
        open("meeting", "w").close()
    if cell.id == "toy_b-plain-seed1":
        open("meeting").close()
    record.update(perplexity=1.5)
"""


def test_cells_that_overlap_on_one_socket_are_contended_both(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=MEETING)
    os.mkfifo(pytester.path / "meeting")
    args = ("-n", "2", "-k", "plain and seed1", "--device", "cpu")
    pytester.runpytest_subprocess("test_shaky.py", *args).assert_outcomes(passed=2)
    folder = pytester.path / "reports"
    found = [read_flat(p) for p in folder.glob("store/records/*.json")]
    assert [r["timings"]["contended"] for r in found] == [True, True]
    assert not list(folder.glob("store/running/*.crowded"))
    pytester.runpytest_subprocess("test_shaky.py", *args[2:], "-k", "toy_a and odd and seed1")
    alone = json.loads((folder / "shaky/raw_runs/toy_a__odd__seed1.json").read_text())
    assert alone["timings"]["contended"] is False
