"""A prompt's ids: those of the chat template exactly, and no end of text behind a plain one."""

import re

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from benchsuite.embedded.schema import Choice, Problem
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation import arc, chat
from benchsuite.evaluation.generation import generate
from benchsuite.latent.examples import Format
from tests.evaluation import embedded_model
from tests.models import tiny

BEGINS_WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = CHATML + (
    "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TURNS = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "Hm?"},
]


def with_template(template, single="$A", bos="<s>", more=()):
    """A tokenizer whose texts become ``single``, with a chat template and its marks as tokens."""
    tokenizer = tiny.tokenizer()
    if more:
        tokenizer.add_tokens(list(more), special_tokens=True)
    tokenizer.bos_token, tokenizer.chat_template = bos, template
    specials = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>", *more)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=specials
    )
    return tokenizer


MARKS = ("<|im_start|>", "<|im_end|>")
TURN_MARKS = ("<start_of_turn>", "<end_of_turn>")
TOKENIZERS = {
    "start added, start in the template": with_template(BEGINS_WITH_BOS, "<s> $A"),
    "no start added, start in the template": with_template(BEGINS_WITH_BOS),
    "start added, none in the template": with_template(CHATML, "<s> $A", more=MARKS),
    "ChatML whose mark is the start": with_template(CHATML, bos=MARKS[0], more=MARKS),
    "ChatML, end added": with_template(CHATML, "$A </s>", bos=MARKS[0], more=MARKS),
    "Gemma": with_template(GEMMA, "<s> $A", more=TURN_MARKS),
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_conversation_has_the_template_s_own_ids(tokenizer):
    expected = tokenizer.apply_chat_template(TURNS, tokenize=True, add_generation_prompt=True)
    (found,) = chat.encoded(tokenizer, [TURNS])
    assert found == list(expected["input_ids"])
    ((begun, (added,)),) = chat.continued(tokenizer, [(TURNS, ["B"])])
    assert begun == found
    assert tokenizer.decode(added) == "B"


def test_thinking_is_off_where_the_template_asks_and_said():
    tokenizer = with_template(QWEN3, bos=MARKS[0], more=MARKS)
    (ids,) = chat.encoded(tokenizer, [TURNS])
    assert tokenizer.decode(ids).endswith("assistant\n<think>\n\n</think>\n\n")
    assert chat.told(tokenizer, True) == {"in_chat_template": True, "thinking": False}
    assert chat.told(tokenizer, False) == {"in_chat_template": False}
    assert chat.told(TOKENIZERS["Gemma"], True) == {"in_chat_template": True}


def test_a_template_is_used_where_there_is_one_unless_it_is_said():
    bare, chatty = tiny.tokenizer(), TOKENIZERS["Gemma"]
    assert [chat.used(bare, s) for s in ("auto", "off")] == [False, False]
    assert [chat.used(chatty, s) for s in ("auto", "on", "off")] == [True, True, False]
    with pytest.raises(UsageError, match="no chat template"):
        chat.used(bare, "on")
    with pytest.raises(UsageError, match="one of auto, on, off"):
        chat.used(bare, "yes")


def test_a_template_that_refuses_is_told():
    with pytest.raises(BenchsuiteError, match="refuses a conversation: System role"):
        chat.encoded(TOKENIZERS["Gemma"], [[{"role": "system", "content": "Be."}, *TURNS]])


@pytest.mark.parametrize(
    "template",
    ["{{ messages[0]['content'] + none }}", "{{ 1 / 0 }}", {"rag": "{{ messages }}"}],
)
def test_a_template_that_fails_in_any_way_is_told_and_ends_no_plain_answer(template):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    for ask in (
        lambda: chat.encoded(tokenizer, [TURNS]),
        lambda: chat.continued(tokenizer, [(TURNS, [" yes"])]),
    ):
        with pytest.raises(BenchsuiteError, match=r"refuses a conversation: .*chat_template=off"):
            ask()
    assert chat.turn_end(tokenizer) is None


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        # Of a model of images and text, whose contents are lists of parts.
        ("{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}U{% endfor %}", 0),
        ("{{ messages[-1].content }}", 0),
        ("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}", -1),
    ],
)
def test_a_template_that_leaves_out_what_is_said_is_refused(template, lost):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    said = re.escape(TURNS[lost]["content"].strip())
    for ask in (
        lambda: chat.encoded(tokenizer, ["plain", TURNS]),
        lambda: chat.continued(tokenizer, [("plain", [" yes"]), (TURNS, [" yes"])]),
    ):
        with pytest.raises(BenchsuiteError, match=f"leaves out what the .* says: .*{said}"):
            ask()


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("Gemma", "<end_of_turn>"),
        ("ChatML, end added", "<|im_end|>"),
        ("no start added, start in the template", None),
    ],
)
def test_the_end_of_a_turn_is_the_template_s(name, mark):
    tokenizer = TOKENIZERS[name]
    expected = None if mark is None else tokenizer.convert_tokens_to_ids(mark)
    assert chat.turn_end(tokenizer) == expected
    assert chat.turn_end(tiny.tokenizer()) is None


# --- plain texts

ENDING = with_template(None, "<s> $A </s>")
STARTING = with_template(None, "<s> $A")


def test_a_tokenizer_that_ends_every_text_ends_no_prompt():
    assert ENDING("Hm? ")["input_ids"][-1] == ENDING.eos_token_id
    texts = ["Hm?", "A longer one:"]
    assert chat.encoded(ENDING, texts) == STARTING(texts)["input_ids"]
    assert chat.encoded(STARTING, texts) == STARTING(texts)["input_ids"]
    ((first, added),) = chat.continued(ENDING, [("Answer:", [" red", " blue"])])
    assert first == STARTING("Answer:")["input_ids"]
    assert [ENDING.decode(ids) for ids in added] == [" red", " blue"]


def test_blanks_at_the_end_of_a_prompt_belong_to_what_follows():
    ((first, (added,)),) = chat.continued(STARTING, [("It ran ", ["away"])])
    assert (STARTING.decode(first[1:]), STARTING.decode(added)) == ("It ran", " away")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompts_asked_together_have_the_ids_that_they_have_alone(name):
    """Plain texts and conversations mixed, with no, one and several texts each."""
    asked = [
        ("Which? ", ["red", "", "grey one"]),
        (TURNS, ["B", " A"]),
        ("What", []),
        ("Why?", [" so"]),
        (TURNS, []),
    ]
    alone = [one for each in asked for one in chat.continued(TOKENIZERS[name], [each])]
    assert chat.continued(TOKENIZERS[name], asked) == alone
    assert chat.continued(TOKENIZERS[name], []) == []


def test_answers_and_scores_do_not_depend_on_an_end_that_is_added():
    model = tiny.model()
    items = [Choice(f"c{i}", "Which?" * i, ("red", "green", "blue", "grey"), 1) for i in range(3)]
    for form in ("letters", "likelihood"):
        ending, starting = (
            arc.evaluate(model, tokenizer, items, form=form) for tokenizer in (ENDING, STARTING)
        )
        assert ending.predictions.tolist() == starting.predictions.tolist()
        assert ending.texts == starting.texts
    np.testing.assert_array_equal(ending.log_likelihoods, starting.log_likelihoods)


def test_a_reasoning_example_has_its_end_behind_the_answer_alone():
    (example,) = Format(ENDING, "Answer:").encode([Problem("p", "2+2?", ("<<2+2=4>>",), "4")])
    assert ENDING.eos_token_id not in [*example.question, *example.steps[0]]
    assert example.answer.count(ENDING.eos_token_id) == 1


def test_turns_are_generated_after_as_their_ids_say():
    model, tokenizer = embedded_model.load()
    ids = chat.encoded(tokenizer, ["Question: Who?\nAnswer:"])
    by_text = generate(model, tokenizer, ["Question: Who?\nAnswer:"], max_new_tokens=6)
    assert generate(model, tokenizer, ids, max_new_tokens=6).texts == by_text.texts
