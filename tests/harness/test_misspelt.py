"""Which words of -k and -m no cell answers to, and what they may have meant."""

import pytest

from benchsuite.harness.misspelt import misspelt

SEEDS = {42, 43}


@pytest.mark.parametrize(
    ("keyword", "marks", "told"),
    [
        ("tiny_lama_1m", "", "no cell is named 'tiny_lama_1m'. Did you mean 'tiny_llama_1m'?"),
        ("cola-zero", "", "no cell is named 'cola-zero'. Did you mean 'cola_zero'?"),
        ("seed7", "", "no cell has seed 7. The seeds are 42, 43; --seeds takes others"),
        ("", "cell(modle='gpt2')", "cell(...) takes no 'modle'. Did you mean 'model'?"),
        ("", "cell(xyz='gpt2')", "cell(...) takes no 'xyz'. It takes asked, dataset, method"),
        ("", "cell(model='llama2-7b')", "no cell has model='llama2-7b'. Did you mean 'llama2_7b'?"),
        ("", "hub or not cell(model='gpt')", "no cell has model='gpt'. `benchsuite list` shows"),
        (
            "",
            "cell(study='quantizers', method='cola_zero')",
            "no cell has method='cola_zero' in study quantizers. `benchsuite list quantizers`",
        ),
        (
            "",
            "cell(study='quantizer')",
            "no study is named 'quantizer'. Did you mean 'quantizers'?",
        ),
        ("", "cell(seed=7)", "no cell has seed 7. The seeds are 42, 43"),
        ("", "cell(seed='42')", "cell(...) takes a seed as a number: seed=42, not seed='42'"),
        ("", "embeded", "no cell has the mark 'embeded'. Did you mean 'embedded'?"),
    ],
)
def test_a_word_that_names_nothing_is_told_with_the_nearest_name(keyword, marks, told):
    (said,) = misspelt(keyword, marks, seeds=SEEDS)
    assert said.startswith(told)


@pytest.mark.parametrize(
    ("keyword", "marks"),
    [
        ("tiny_llama and not seed4 and test_quantizers", ""),
        ("something_of_their_own", "slow and their_mark(kind='x')"),
        ("", "cell(study='quantizers', model='tiny_llama_1m', method='rtn_w4', seed=42)"),
        ("", "cell(model="),
        ("", ""),
    ],
)
def test_nothing_is_told_of_words_that_name_something_or_are_not_ours(keyword, marks):
    assert misspelt(keyword, marks, seeds=SEEDS) == []


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_session_says_it_with_workers_too(bench, workers):
    result = bench("-n", workers, "-k", "select_and_quantise")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["no cell is named 'select_and_quantise'. Did you mean *"])
