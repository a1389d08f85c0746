"""What the verdict says of evidence, and what it leaves unsaid without it."""

import pytest

from benchsuite.determinism import classified
from benchsuite.determinism.kernels import kernel_as_asked, short
from benchsuite.determinism.verdict import samples_needed, verdict

EXLLAMA = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 8>(half const*, int)"
MARLIN = "void marlin::Marlin<half, 1125899906842638L, 1125899906842624L, 256, 4>(int4 const*)"


def profile(*names):
    return {
        "profiling_succeeded": bool(names),
        "all_kernels": [{"name": n, "count": 1, "time_us": 1.0} for n in names],
    }


def stats(exact=True, l2=0.0):
    return {
        "tokens_identical": True,
        "logprobs_exact": exact,
        "l2_mean": l2,
        "l2_max": l2,
        "repetitions": 5,
        "unique_completions": 1,
        "first_divergent_index": None,
    }


def deterministic(exact, *kernels):
    return {"succeeded": True, "stats": stats(exact), "kernels": profile(*kernels)}


def judged(exact, found, mode, axes=None, **rest):
    return verdict(
        stats(exact, 0.0 if exact else 0.03),
        deterministic=mode,
        axes=axes or {},
        profile=profile(*found),
        **rest,
    )


def test_the_advice_says_from_how_many_tokens_the_original_can_be_told():
    def advice(*rows):
        names = ("tokens", "detected", "false_alarms", "few", "batches")
        found = {"rows": [dict(zip(names, row, strict=True)) for row in rows]}
        told = judged(
            True,
            [MARLIN],
            deterministic(True),
            verification={"tested": True, "against_original": found},
        )
        return told["forensic_implications"]

    rough = (1000, 1.0, 0.0, True, 2)
    assert advice((30, 0.6, 0.04, False, 64), (100, 0.97, 0.05, False, 16), rough).endswith(
        "100 served tokens tell it from the original (Token-DiFR: detected 97%, false alarms 5%)"
    )
    assert advice((30, 0.06, 0.04, False, 64), (1000, 0.1, 0.05, True, 2)).endswith(
        "1000 served tokens do not tell it from the original "
        "(Token-DiFR: detected 10%, false alarms 5%, of 2 batches only)"
    )
    assert "Too few tokens" in advice((30, None, None, True, 1))
    assert (
        "served tokens" not in judged(True, [MARLIN], deterministic(True))["forensic_implications"]
    )


def test_the_lists_are_the_documents_with_attention_and_split_k_beside_them():
    names = (
        EXLLAMA,
        MARLIN,
        "void vllm::awq::dequantize_weights(int*)",
        "flash::FlashAttnFwdSm90",
        "nvjet_hsh_64x8_splitK_TNT",
        "aten::mm",
        "triton_add_kernel",
    )
    found = classified(profile(*names))
    assert [k["name"] for k in found["marlin_kernels"]] == [MARLIN]
    assert [k["name"] for k in found["dequant_kernels"]] == [names[2]]
    assert [k["name"] for k in found["attention_kernels"]] == [names[3]]
    assert [k["name"] for k in found["split_k_or_atomic_kernels"]] == [EXLLAMA, names[4]]
    gemm = [k["name"] for k in found["gemm_kernels"]]
    assert gemm == [EXLLAMA, MARLIN, names[4], "aten::mm"]
    assert len(found["all_kernels"]) == len(names)


@pytest.mark.parametrize(
    ("expected", "seen", "answer"),
    [("marlin", (MARLIN,), True), ("marlin", (EXLLAMA,), False), ("", (MARLIN,), None)],
)
def test_the_kernel_that_was_asked_for_is_checked_against_what_ran(expected, seen, answer):
    assert kernel_as_asked(expected, profile(*seen)) is answer
    assert kernel_as_asked("marlin", profile()) is None


def test_an_unordered_kernel_that_ran_is_named_and_its_absence_supports_it():
    told = judged(False, (EXLLAMA, MARLIN), deterministic(True, MARLIN))
    assert "gemm_half_q_half_gptq_4bit_kernel<true, 8>" in told["root_cause"]
    assert "does not run, and the bits are equal" in told["root_cause"]
    assert "✓ DETERMINISTIC MODE FIXES IT" in told["details"]
    assert told["summary"] == "BASELINE IS NON-DETERMINISTIC"


def test_an_unordered_kernel_that_is_exact_elsewhere_is_not_blamed():
    told = judged(False, (EXLLAMA,), deterministic(True, EXLLAMA))
    assert "not established" in told["root_cause"]


def test_ordered_reductions_are_not_blamed_for_run_to_run_noise():
    told = judged(False, (MARLIN, "nvjet_splitK"), deterministic(False))
    assert "not established" in told["root_cause"]
    assert "✗ Deterministic mode does not make it exact" in told["details"]
    assert "no kernel was profiled" in judged(False, (), {"succeeded": False})["root_cause"]


def test_one_repetition_leaves_the_question_open():
    once = stats() | dict.fromkeys(("tokens_identical", "logprobs_exact", "l2_mean", "l2_max"))
    once |= {"repetitions": 1}
    mode = {"succeeded": True, "stats": once}
    told = verdict(once, deterministic=mode, axes=BATCHES, profile=profile(MARLIN))
    assert told["is_deterministic"] is None
    assert told["summary"].startswith("NOT ANSWERED: ONE REPETITION")
    assert told["summary"].endswith("; DIFFERS OVER BATCHES")
    assert [row["samples"] for row in told["samples_needed"]] == [None, None]
    assert "not known" in told["forensic_implications"]
    assert (
        "Deterministic mode ran; one repetition does not tell whether it is exact"
        in (told["details"])
    )
    # A file of the study document's script, where one repetition counts as equal.
    theirs = once | {"tokens_identical": True, "logprobs_exact": True}
    assert verdict(theirs, deterministic={}, axes={}, profile={})["is_deterministic"] is None


BATCHES = {"batch_invariance": {"exact": False, "tokens_identical": True, "l2_max": 0.015}}


def test_batches_are_explained_by_the_kernels_they_exchange():
    batched = profile("nvjet_64x8", MARLIN)
    told = judged(True, ("nvjet_128x2", MARLIN), {}, BATCHES, batched_profile=batched)
    assert told["is_deterministic"]
    assert "alone nvjet_128x2, in the largest batch nvjet_64x8" in told["root_cause"]
    more = judged(True, (MARLIN,), {}, BATCHES, batched_profile=profile(MARLIN, "splitk_reduce"))
    assert "in the largest batch splitk_reduce" in more["root_cause"]
    same = judged(True, (MARLIN,), {}, BATCHES, batched_profile=profile(MARLIN))
    assert "ordered barrier" in same["root_cause"]
    unknown = judged(True, ("aten::mm",), {}, BATCHES, batched_profile=profile("aten::mm"))
    assert "not established" in unknown["root_cause"]
    assert "1.50e-02" in told["forensic_implications"]


def test_samples_follow_from_the_noise():
    # statsmodels 0.15: TTestIndPower().solve_power(0.5, power=.8, alpha=.05) is 63.77.
    (kernel, quantizer) = samples_needed(0.03)
    assert kernel["samples"] == 64
    assert quantizer["samples"] == 2
    assert [row["samples"] for row in samples_needed(0.0)] == [1, 1]
    assert samples_needed(1e6)[0]["samples"] is None


def test_axes_that_were_not_tried_say_why():
    axes = {"other_gpu": {"exact": None, "reason": "there is one"}, "threads": {"exact": True}}
    axes |= {"fresh_process": {"exact": False, "tokens_identical": True, "l2_max": 0.0015}}
    axes |= {"quantizer": {"exact": False}}
    details = judged(True, (MARLIN,), {"succeeded": False, "error": "no such mode"}, axes)[
        "details"
    ]
    assert "other gpu: not tested (there is one)" in details
    assert "threads: bit-exact" in details
    assert "fresh process: differs, up to 1.50e-03 L2 with equal tokens" in details
    assert "quantizer: differs" in details
    assert "Deterministic mode not tested: no such mode" in details


def test_short_names_keep_what_tells_kernels_apart():
    assert short(EXLLAMA) == "vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 8>"
    assert short(MARLIN).startswith("marlin::Marlin<half, 1125899906842638L")
    assert short("aten::mm") == "aten::mm"
