"""The log of looks: what is new is added, what is damaged is left out."""

from benchsuite.records.judged import JudgedLog

FIRST = [("a < b", "one", (1, 2, 3)), ("a < b", "two", (1, 2, 3))]


def test_a_look_is_noted_once(tmp_path):
    log = JudgedLog(tmp_path)
    log.note("s", FIRST, asked=["one", "two"])
    log.note("s", FIRST, asked=["two"])
    log.note("s", [*FIRST, ("a < b", "one", (1, 2, 3, 4))], plan="abc")
    log.note("t", FIRST)

    assert [(look.seeds, dict(look.judged), look.asked) for look in log.looks("s")] == [
        ((1, 2, 3), {"a < b": ("one", "two")}, ()),
        ((), {}, ("one", "two")),
        ((1, 2, 3, 4), {"a < b": ("one",)}, ()),
    ]
    assert log.looks("s")[-1].plan == "abc"
    assert log.asked("s") == {"one", "two"}
    assert log.asked("t") == frozenset()
    assert len(log.path.read_text().splitlines()) == 4


def test_a_line_that_was_cut_off_costs_no_other(tmp_path):
    log = JudgedLog(tmp_path)
    log.note("s", FIRST)
    with open(log.path, "a") as file:
        file.write('{"at": "2026-01-01T00:00:00+00:00", "study": "s", "see')
    log.note("s", [("a < b", "one", (1, 2))])

    assert [look.seeds for look in log.looks("s")] == [(1, 2, 3), (1, 2)]


def test_without_a_log_nothing_was_judged(tmp_path):
    assert JudgedLog(tmp_path / "none").looks("s") == []
