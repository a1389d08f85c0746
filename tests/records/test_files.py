"""What file systems take, and what the store makes of it."""

from hypothesis import given
from hypothesis import strategies as st

from benchsuite.records.files import fitting_name
from benchsuite.records.store import Store

SET_MUCH = "smollm2_135m_q4__rtn_w4_asym__seed42__" + "__".join(
    f"parameter_{i}-{i}" for i in range(30)
)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_fit_and_stay_apart(one, other):
    kept = fitting_name(one * 50)
    assert len(kept.encode()) <= 200
    assert (kept == fitting_name(other * 50)) == (one * 50 == other * 50)


def test_a_short_name_stays_and_a_long_one_can_be_written(tmp_path):
    assert fitting_name("llama-2-7b-hf__random__seed42") == "llama-2-7b-hf__random__seed42"
    path = Store(tmp_path).view_path("quantizers", SET_MUCH, "hub")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert path.name.startswith("smollm2_135m_q4__rtn_w4_asym__seed42__parameter_0-0__")
