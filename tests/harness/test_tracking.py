"""``--wandb=offline`` in real runs: what lies in the run folders is what the records say."""

import json
import struct

import pytest

pytest.importorskip("wandb", reason="needs the extra wandb")

CELLS = ("-k", "toy_a and seed1 and (first or nll)")


def logged(path):
    """Read a run's file, a log in LevelDB's format: its run and its summary."""
    from wandb.proto import wandb_internal_pb2

    data, at, run, summary = path.read_bytes(), 7, None, {}
    while at < len(data):
        _, size, kind = struct.unpack_from("<IHB", data, at)
        assert kind == 1, "a small run's entries are whole"
        entry = wandb_internal_pb2.Record()
        entry.ParseFromString(data[at + 7 : at + 7 + size])
        at += 7 + size
        if entry.WhichOneof("record_type") == "run":
            run = entry.run
        for item in entry.summary.update:
            summary[item.key] = json.loads(item.value_json)
    return run, summary


@pytest.fixture
def runs(project):
    """Read the runs under the reports folder, by id."""

    def read():
        paths = (project.path / "reports/wandb").glob("offline-run-*/run-*.wandb")
        return {run.run_id: (run, summary) for run, summary in map(logged, paths)}

    return read


@pytest.mark.stress
def test_every_cell_is_a_run_of_its_study_with_its_records_numbers_and_is_logged_once(
    bench, records, runs
):
    result = bench("-n", "2", "--wandb=offline", *CELLS)

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["wandb: 2 runs logged offline"])
    kept = {record["fingerprint"]["value"]: record for record in records().values()}
    found = runs()
    assert set(found) == set(kept)
    for name, (run, summary) in found.items():
        cell = kept[name]["cell"]
        metric = {"select_and_quantize": "perplexity", "generate_and_score": "auroc"}[cell["study"]]
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert (run.project, run.run_group, run.display_name, run.job_type) == (
            "benchsuite",
            cell["study"],
            cell["name"],
            cell["axes"]["method"],
        )
        assert summary[metric] == kept[name][metric]
        assert summary["results_sha256"] == kept[name]["results_sha256"]
        assert {**cell["axes"], **cell["parameters"]}.items() <= config.items()

    again = bench("--wandb=offline", *CELLS)

    again.stdout.fnmatch_lines(["wandb: 0 runs logged offline", "*2 cached*"])
    assert runs().keys() == found.keys()


def test_a_tracker_that_fails_costs_a_line_and_no_result(bench, records, project):
    (project.path / "reports").mkdir()
    (project.path / "reports/wandb").write_text("a file where the runs' folder should be")

    result = bench("--wandb=offline", *CELLS)

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*wandb logged nothing: *"])
    assert result.ret == 0
    assert len(records()) == 2
