"""Parameters: their values by model and method, what a user may set, and earlier names."""

import json

import pytest

from benchsuite.errors import UsageError
from benchsuite.records.fields import Fields
from benchsuite.records.forms import nested, sealed, table_of
from benchsuite.records.reading import read_cell
from benchsuite.records.record import CellFacts
from benchsuite.reporting.merging import read_sources, results_of
from benchsuite.study import Parameter, Study, names, parse_setting, study
from benchsuite.study.parameter import as_setting
from benchsuite.study.table import parameter_rows, values_of
from tests.reporting.factory import record, stored

AXES = {"model": ("tiny_llama_1m", "llama2_7b"), "method": ("a", "b")}


def own(**parameters) -> Study:
    return Study("own", "?", AXES, (1,), parameters)


def of(declared, **settings):
    return {(c.model, c.method): dict(c.parameters) for c in declared.cells(settings=settings)}


def test_a_plain_value_is_a_parameter_with_that_default():
    assert own(width=3, shape=(1, 2)).parameters == {
        "width": Parameter(3),
        "shape": Parameter((1, 2)),
    }


def test_embedded_models_have_their_own_value():
    found = of(own(length=Parameter(2048, embedded=256), name=Parameter("long", embedded="")))
    assert found["llama2_7b", "a"] == {"length": 2048, "name": "long"}
    assert found["tiny_llama_1m", "a"] == {"length": 256, "name": ""}


@pytest.mark.parametrize("only", [("b",), lambda method: method > "a"])
def test_a_parameter_belongs_to_the_methods_that_it_names_or_chooses(only):
    found = of(own(steps=Parameter(5, only=only)), steps=7)
    assert found["llama2_7b", "b"] == {"steps": 7}
    assert found["llama2_7b", "a"] == {}


@pytest.mark.parametrize(
    ("parameter", "value", "told"),
    [
        (Parameter(4, choices=(3, 4)), 5, r"\. x is one of 3, 4"),
        (Parameter(4, least=2), 1, r"\. x is at least 2, by default 4"),
        (Parameter(4), -1, r"\. x is at least 0"),
        (Parameter(0.5), float("inf"), "out of range"),
        (Parameter(4), "four", "is a str. x is a int, by default 4"),
        (Parameter(4, never=(1,)), 1, r"\. x is at least 0 and not 1, by default 4"),
        (Parameter((1, 7)), (1, -1), r"\. x is like \(1, 7\), each at least 0"),
        (Parameter((1, 7)), (1, "b"), r"\. x is like \(1, 7\)"),
        (Parameter(None), "much", r"is a str\. x is a number, or none"),
        (Parameter(False), 1, "is a int. x is a bool"),
        (Parameter("gpt2", reads="model"), "gpt3", "unknown model .*Did you mean 'gpt2'"),
        (Parameter("c4", reads="corpus:test"), "wikitex2", "corpus .*Did you mean 'wikitext2'"),
        (Parameter("svamp", reads="task"), "svemp", "unknown task .*Did you mean 'svamp'"),
    ],
)
def test_what_a_parameter_cannot_be_is_refused_by_name(parameter, value, told):
    with pytest.raises(UsageError, match=told):
        of(own(x=parameter), x=value)


def test_none_and_whole_numbers_are_taken_where_they_may_stand():
    found = of(own(alpha=Parameter(None), share=Parameter(0.5)), alpha=0.7, share=1)
    assert found["llama2_7b", "a"] == {"alpha": 0.7, "share": 1}


def test_what_axes_and_parameters_read_is_told_in_one_way():
    declared = Study(
        "own",
        "?",
        {**AXES, "data": ("trivia_qa",)},
        (1,),
        {
            "judge": Parameter("", reads="model"),
            "text": Parameter("c4", reads="corpus:train"),
            "n": 3,
        },
        reads={"data": "task"},
    )
    assert declared.reading("model") == {"model": "", "judge": ""}
    assert declared.reading("corpus") == {"text": "train"}
    assert declared.reading("task") == {"data": ""}
    assert Study("own", "?", AXES, (1,), reads={"model": ""}).reading("model") == {}


@pytest.mark.parametrize(
    ("reads", "told"),
    [
        ({"dataset": "task"}, "unknown axis in reads of study own: 'dataset'"),
        ({"method": "tasks"}, "unknown kind of input in reads: 'tasks'. Did you mean 'task'"),
    ],
)
def test_what_cannot_be_read_is_refused(reads, told):
    with pytest.raises(UsageError, match=told):
        Study("own", "?", AXES, (1,), reads=reads)


def test_a_tour_of_an_unknown_parameter_is_refused():
    from benchsuite.study import Tour

    tour = Tour({}, (1,), {"widht": 2})
    with pytest.raises(UsageError, match=r"tour of study own: 'widht'\. Did you mean 'width'"):
        Study("own", "?", AXES, (1,), {"width": 3}, tour=tour)


def test_a_claim_over_items_needs_their_columns():
    from benchsuite.study import ranks_better

    with pytest.raises(UsageError, match="Declare auroc in `metrics`"):
        Study("own", "?", AXES, (1,), claims=(ranks_better("auroc", "a", than="b"),))


@pytest.mark.parametrize(
    "value",
    [(3, 4), [5], ["a", ["b"]], "4", "a b, c'd", "none", "True", "", True, None, 1e-7, -1],
)
def test_a_setting_that_is_written_is_read_as_it_was(value):
    """Also as JSON has it, where a tuple is a list."""

    def tuples(one):
        return tuple(map(tuples, one)) if isinstance(one, list | tuple) else one

    assert parse_setting(as_setting("own", "sizes", value)) == ("own", "sizes", tuples(value))


# --- earlier names


def test_an_earlier_name_still_sets_the_parameter():
    (cell, *_) = study("calibration_selection").cells(settings={"downstream": True})
    assert cell["downstream_tasks"] is True
    assert cell.changed == {"downstream_tasks": True}


def as_before(cell):
    """Return a cell's facts as records of the time held them."""
    now = json.dumps(table_of(CellFacts.of(cell)))
    return json.loads(now.replace("downstream_tasks", "downstream"))


def test_an_earlier_name_in_a_record_means_the_parameter(tmp_path):
    cells = study("calibration_selection").cells(seeds=(42,), settings={"quant_bits": 3})
    (cell,) = [c for c in cells if (c.model, c.method) == ("llama2_7b", "random")]
    measured = record(cell, 5.79)
    old = nested(measured) | {"cell": as_before(cell)}
    assert "downstream" in old["cell"]["parameters"]
    assert read_cell(Fields(old["cell"])) == CellFacts.of(cell)
    stored(tmp_path / "store/records", {measured.fingerprint.value: sealed(old)})

    (found,) = results_of(read_sources([tmp_path]))

    assert found.records[cell.id].value("perplexity") == 5.79
    assert {c.parameters.get("downstream_tasks") for c in found.cells} == {False}


def test_facts_of_an_unknown_study_stay_as_they_are():
    axes = {"model": "tiny_llama_1m", "seed": 1}
    facts = CellFacts("elsewhere", "a", "a", axes, {"downstream": 1}, {})
    assert read_cell(Fields(table_of(facts))) == facts


# --- what `list` and the documentation print


@pytest.mark.parametrize("name", names())
def test_every_parameter_is_explained(name):
    rows = parameter_rows(study(name))
    assert [row[0] for row in rows if not row[3]] == []


def test_a_row_says_choices_and_methods():
    declared = own(
        bits=Parameter(4, embedded=3, choices=(3, 4), help="a weight's"),
        steps=Parameter(5, only=("b",), help="of the search"),
    )
    assert parameter_rows(declared) == [
        ("bits", "4", "3", "a weight's; one of 3, 4"),
        ("steps", "5", "5", "of the search; only b"),
    ]
    assert values_of(declared.cells(), "bits") == ["3", "4"]


def test_what_several_studies_declare_alike_is_declared_once():
    seen: dict[tuple[str, object, object], Parameter] = {}
    for declared in map(study, names()):
        for name, parameter in declared.parameters.items():
            first = seen.setdefault((name, parameter.default, parameter.embedded), parameter)
            assert parameter is first, f"{declared.name}.{name}"


def test_a_parameter_may_belong_to_values_of_another_axis_and_to_packaged_models():
    rounding = Parameter(4, packaged=3, among={"precision": ("low",)}, help="bits")
    chosen = Study(
        name="among",
        question="?",
        axes={
            "model": ("tiny_llama_1m", "smollm2_135m_q4"),
            "precision": ("high", "low"),
            "method": ("m",),
        },
        seeds=(1,),
        parameters={"bits": rounding},
    )
    found = {(c.model, c["precision"]): c.parameters.get("bits") for c in chosen.cells()}
    assert found == {
        ("tiny_llama_1m", "high"): None,
        ("tiny_llama_1m", "low"): 4,
        ("smollm2_135m_q4", "high"): None,
        ("smollm2_135m_q4", "low"): 3,
    }
    assert parameter_rows(chosen)[0][-1] == "bits; only precision low"
