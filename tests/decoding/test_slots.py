"""The decoding core for GPUs: its answers are the plain loop's, on every architecture it knows.

Here it runs without its kernel and its graph, on a CPU; ``test_slots_cuda.py`` runs the whole.
"""

import numpy as np
import pytest
import torch

from benchsuite.decoding.loop import decode, drawing, entropy, evaluating
from benchsuite.decoding.rounded import round_in_attention
from benchsuite.decoding.slots import Slots
from benchsuite.decoding.ways import SLOT_MODELS, common_start, grows_in_slots
from benchsuite.evaluation.generation import TOLERANCE
from benchsuite.evaluation.growing import LOOK_EVERY, Answer, SlotGrowth
from benchsuite.models.long_rope import settled
from benchsuite.quantizers import cache, quarot
from benchsuite.quantizers.formats.activations import KeyValueQuantizer
from tests.decoding.slot_models import FAMILIES, attend_plainly, build

PROMPTS = [[5, 6, 7], [9], list(range(3, 40)), [8, 8], list(range(60, 80)), [4, 3, 2, 11, 30]]
NEW = 20


class Words:
    """A tokenizer whose tokens are letters, so that stop strings are sequences of them."""

    eos_token_id = None

    def decode(self, ids, **_):
        return "".join(chr(0x100 + i) for i in ids)


def in_slots(
    model, prompts, n_slots, *, copies=1, stop=(), ends=(), numbers=None, heat=None, **kept
):
    """``kept`` are the slots' ``entropies`` and ``prefix``."""
    answers = [[Answer(Words(), stop, frozenset(ends)) for _ in range(copies)] for _ in prompts]
    length = max(map(len, prompts)) + NEW - len(kept.get("prefix", ()))
    slots = Slots(
        model,
        n_slots,
        length,
        NEW + 2 * LOOK_EVERY,
        attend=attend_plainly,
        temperature=heat,
        **kept,
    )
    told = []
    with slots.running():
        slots.step()  # before any prompt, as a GPU's capture is
        SlotGrowth(slots, prompts, answers, NEW, numbers).run(told.append)
    assert told[-1] == len(prompts)
    assert told == sorted(told)
    return answers


def plainly(model, prompts, *, stop=(), ends=()):
    """One prompt at a time, by the whole text in every step: nothing shared, nothing kept."""
    answers = []
    for prompt in prompts:
        answer, ids, log_probs, entropies = (
            Answer(Words(), stop, frozenset(ends)),
            list(prompt),
            [],
            [],
        )
        for _ in range(NEW):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            token = int(logits.argmax())
            answer.add(token)
            log_probs.append(float(logits.double().log_softmax(-1)[token]))
            entropies.append(float(torch.distributions.Categorical(logits=logits).entropy()))
            ids.append(token)
        answer.close(np.array(log_probs), np.array(entropies))
        answers.append(answer)
    return answers


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_whole_text_read_anew_in_every_step(family):
    model = build(family)
    expected = plainly(model, PROMPTS)
    # Each slot is taken again and again.
    found = in_slots(model, PROMPTS, n_slots=2, entropies=True)

    for (answer,), other in zip(found, expected, strict=True):
        assert answer.ids == other.ids
        np.testing.assert_allclose(answer.log_probs, other.log_probs, atol=TOLERANCE)
        np.testing.assert_allclose(answer.entropies, other.entropies, atol=TOLERANCE)
    assert model.config._attn_implementation == "sdpa"


def test_positions_with_two_sets_of_factors_have_one_of_them_throughout():
    """Without it the prompts below the turn would be read by other factors than they go on with."""
    short, long = [1.0] * 8, [1.0 + i for i in range(8)]
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16}
    rope |= {"short_factor": short, "long_factor": long}
    model = build("phi3", rope_parameters=rope, original_max_position_embeddings=16)
    with settled(model, max(map(len, PROMPTS)) + NEW):
        expected = plainly(model, PROMPTS)
        found = in_slots(model, PROMPTS, n_slots=2)
    assert [answer.ids for (answer,) in found] == [other.ids for other in expected]
    assert [answer.ids for answer in plainly(model, PROMPTS)] != [x.ids for x in expected]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_all_prompts_begin_with_is_read_once_and_answers_stay(family):
    """Prompts of a token beyond the prefix, and of more than an attention's window."""
    model = build(family)
    start = [3 + 7 * i % 250 for i in range(130)]
    prompts = [start + prompt for prompt in PROMPTS] + [start[:129]]
    expected, lengths = plainly(model, prompts, stop="\u0105"), []

    def seen(module, args, kwargs):
        lengths.append(kwargs["input_ids"].shape[1])

    model.register_forward_pre_hook(seen, with_kwargs=True)
    prefix = common_start(prompts)
    assert prefix == start[:128]
    found = in_slots(model, prompts, n_slots=3, prefix=prefix, stop="\u0105")

    assert sorted(lengths)[-2:] == [38, 128]  # 167 tokens less the prefix and the last
    for (answer,), other in zip(found, expected, strict=True):
        assert answer.ids == other.ids
        np.testing.assert_allclose(answer.log_probs, other.log_probs, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[5] * 300, [5] * 299 + [6]], 256),
        ([[5] * 257, [5] * 300], 256),  # a token of each is left
        ([[5] * 256, [5] * 300], 192),
        ([[5] * 300], 0),  # one is read once anyhow
        ([[5] * 127 + [6] * 90, [5] * 300], 0),  # too few to be worth it
        ([[1, *([5] * 300)], [2, *([5] * 300)]], 0),
    ],
)
def test_what_prompts_have_in_common(prompts, length):
    assert common_start(prompts) == prompts[0][:length]
    assert common_start(prompts[::-1]) == prompts[0][:length]


@pytest.mark.parametrize("stop", [(), ("\u0103\u0104",), ("\u0105", "\u0103\u0104\u0103")])
@pytest.mark.parametrize("ends", [(), (7,)])
def test_tokens_by_eights_end_an_answer_where_single_ones_do(stop, ends):
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = rng.integers(3, 9, 40).tolist()
        one, several = (Answer(Words(), stop, frozenset(ends)) for _ in range(2))
        for i in range(0, 40, 8):
            several.extend(tokens[i : i + 8])
            for token in tokens[i : i + 8]:
                one.add(token)
        for answer in (one, several):
            answer.close(np.arange(40.0))
        assert (several.ids, several.text, several.ended_by) == (one.ids, one.text, one.ended_by)
        assert several.log_probs.tolist() == one.log_probs.tolist()


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text"])
@pytest.mark.parametrize("numbers", ["fp8_head", "int4", "quarot"])
def test_a_rounded_cache_holds_what_an_attention_that_rounds_reads(numbers, family):
    model, text = build(family), torch.arange(3, 67)[None]
    if numbers == "quarot":
        heads = [layer.self_attn for layer in model.model.layers]
        rounding = quarot.KeyValueRounding(KeyValueQuantizer(4, 16))
        round_in_attention(model, ((each, rounding) for each in heads))
    else:
        cache.quantize(model, text, numbers=numbers)
    expected = plainly(model, PROMPTS)
    found = in_slots(model, PROMPTS, n_slots=2)

    unrounded = plainly(build(family), PROMPTS[:1])
    assert abs(expected[0].log_probs[0] - unrounded[0].log_probs[0]) > 10 * TOLERANCE
    for (answer,), other in zip(found, expected, strict=True):
        assert answer.ids == other.ids
        np.testing.assert_allclose(answer.log_probs, other.log_probs, atol=TOLERANCE)


def test_every_known_type_is_tried_here():
    assert {family.split()[0] for family in FAMILIES} == SLOT_MODELS


@pytest.mark.parametrize("n_slots", [1, 3, 8])
def test_an_answer_that_ends_early_gives_its_slot_away_and_is_cut_where_it_ended(n_slots):
    model = build("llama")
    free = plainly(model, PROMPTS)
    ends = {free[0].ids[4]}
    stop = ["".join(chr(0x100 + i) for i in free[2].ids[5:8])]
    expected = plainly(model, PROMPTS, stop=stop, ends=ends)
    found = in_slots(model, PROMPTS, n_slots, stop=stop, ends=ends)

    assert {"end", "stop"} <= {answer.ended_by for answer in expected}
    for (answer,), other in zip(found, expected, strict=True):
        assert (answer.ids, answer.text, answer.ended_by) == (other.ids, other.text, other.ended_by)
        assert len(answer.log_probs) == len(answer.ids)


@pytest.mark.parametrize("heat", [1.3, (4.0, 0.3)])  # one for all tokens; the first one's, then
def test_drawn_answers_are_drawn_by_their_own_numbers_whatever_the_slots(heat):
    model, copies = build("llama"), 3
    numbers = np.random.default_rng(5).random((len(PROMPTS), copies, NEW))
    few = in_slots(model, PROMPTS, 3, copies=copies, numbers=numbers, heat=heat)
    many = in_slots(model, PROMPTS, 18, copies=copies, numbers=numbers, heat=heat)

    for i, prompt in enumerate(PROMPTS):
        rows = torch.from_numpy(numbers[i])
        with evaluating(model):
            steps = decode(model, torch.tensor([prompt]), None, drawing(rows, heat), copies=copies)
            expected = torch.stack([next(steps)[0] for _ in range(NEW)], 1).tolist()
        assert [answer.ids for answer in few[i]] == expected
        assert [answer.ids for answer in many[i]] == expected
    assert len({tuple(answer.ids) for answer in few[0]}) == copies


def test_where_there_is_no_gpu_answers_do_not_grow_in_slots():
    assert not grows_in_slots(build("llama"))


def test_a_token_that_is_shut_out_adds_nothing_to_the_entropy():
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [5.0, -torch.inf, -torch.inf]])
    assert entropy(logits).tolist() == pytest.approx([np.log(2), 0])
