"""Every answer an engine may give, and what is refused of it."""

import pytest

from benchsuite.engines import validation
from benchsuite.engines.limits import allowed_seconds
from benchsuite.engines.validation import Refused

GOOD = {"tokens": [[5, 6], [7, 8]], "logprobs": [[-1.5, -2.5], [0, -0.5]]}


def test_right_answers_are_returned_as_they_are():
    assert validation.generated(GOOD, 2, 2) is GOOD
    assert validation.generated({"tokens": [[]], "logprobs": [[]]}, 1, 0)
    scored = {"logprobs": [[-1.0], []], "best": [[3], []]}
    assert validation.scored(scored, [[1, 2], [1]]) is scored
    judged = {"ranks": [[0, 7], []], "margins": [[0.0, 1.5], []]}
    assert validation.judged(judged, [2, 0]) is judged
    kernel = {"name": "gemm", "count": 1, "time_us": 2.5}
    seen = {"profiling_succeeded": True, "all_kernels": [kernel], "using": ["Marlin"]}
    assert validation.kernels(seen) is seen
    for digest in ("ab12", None):
        assert validation.prepared({"weights_sha256": digest})["weights_sha256"] == digest
    timed = {"seconds": [0.5, 1], "peak_memory_bytes": 10}
    assert validation.timed(timed, 2) is timed


@pytest.mark.parametrize("token", [5.0, 5.5, -1, True, "5", None, [5], 2**31, 10**400])
@pytest.mark.parametrize(("key", "check"), [("tokens", "generated"), ("best", "scored")])
def test_a_token_is_an_integer(token, key, check):
    answer = {key: [[1, token]], "logprobs": [[-1.0, -1.0]]}
    asked = (1, 2) if check == "generated" else ([[1, 2, 3]],)
    with pytest.raises(Refused, match=f"among the {key}"):
        getattr(validation, check)(answer, *asked)


@pytest.mark.parametrize("value", ["-1.0", None, False, [-1.0], 10**400])
def test_a_log_prob_is_a_number(value):
    with pytest.raises(Refused, match="among the logprobs"):
        validation.generated({**GOOD, "logprobs": [[-1.0, value], [-1.0, -1.0]]}, 2, 2)


@pytest.mark.parametrize(
    "rows",
    [[], [[5, 6]], [[5], [7, 8]], [[5, 6], [7]], [[5, 6], [7, 8, 9]], [5, 6], {}, None, "56"],
)
@pytest.mark.parametrize("key", ["tokens", "logprobs"])
def test_no_row_is_missing_short_or_long(key, rows):
    with pytest.raises(Refused, match=key):
        validation.generated({**GOOD, key: rows}, 2, 2)


@pytest.mark.parametrize("found", [None, [], "text", 1.5, {}])
def test_an_answer_without_its_fields_is_refused(found):
    checks = [
        lambda: validation.generated(found, 1, 1),
        lambda: validation.scored(found, [[1, 2]]),
        lambda: validation.judged(found, [1]),
        lambda: validation.kernels(found),
        lambda: validation.prepared(found),
        lambda: validation.timed(found, 1),
    ]
    for check in checks:
        with pytest.raises(Refused):
            check()


@pytest.mark.parametrize(
    "kernel",
    ["gemm", {}, {"name": "gemm", "count": 1}, {"name": None, "count": 1, "time_us": 1.0}],
)
def test_a_kernel_has_name_count_and_time(kernel):
    with pytest.raises(Refused):
        validation.kernels({"profiling_succeeded": True, "all_kernels": [kernel]})


@pytest.mark.parametrize("seconds", [[], [1.0], [1.0, 0.0], [1.0, -1.0], [1.0, "1"], 2.0])
def test_each_repetition_has_its_time(seconds):
    with pytest.raises(Refused, match="seconds"):
        validation.timed({"seconds": seconds, "peak_memory_bytes": 1}, 2)


def test_a_float_is_read_with_all_its_bits():
    value = -0.1234567890123456789
    line = b'{"to": 7, "answer": %s}' % repr(value).encode()
    assert validation.answer(line, 7)["answer"] == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", '{"a": [0, -1e999]}'])
def test_numbers_beyond_the_finite_are_refused(text):
    with pytest.raises(Refused, match="not a finite number"):
        validation.answer(b'{"to": 7, "answer": %s}' % text.encode(), 7)


def test_the_limit_grows_with_the_tokens_that_are_asked_for():
    prompt = [1] * 2048
    one = allowed_seconds("generate", {"prompts": [prompt], "max_tokens": 50})
    batch = allowed_seconds("generate", {"prompts": [prompt] * 32, "max_tokens": 50})
    none = allowed_seconds("generate", {"prompts": [], "max_tokens": 50})
    assert batch - none == pytest.approx(32 * (one - none))
    assert one > none > 0
    once = allowed_seconds("latency", {"prompt": prompt, "max_tokens": 50, "repeats": 1})
    runs = {"prompt": prompt, "max_tokens": 50, "repeats": 3, "warmup": 1}
    assert allowed_seconds("latency", runs) - none == pytest.approx(4 * (once - none))
    calibrated = allowed_seconds("prepare", {"folder": None, "calibration": [prompt]})
    assert calibrated > allowed_seconds("load", {"source": {}}) > none
