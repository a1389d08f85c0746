"""Text that is evaluated and calibrated on at once is refused."""

import pytest

from benchsuite.corpora import TextCorpus
from benchsuite.corpora.overlap import refuse_shared
from benchsuite.errors import UsageError

LONG = [f"Document {i} " + "says something of its own. " * 5 for i in range(20)]


def corpus(split, *documents):
    return TextCorpus("mine", split, documents, split, "local")


def test_the_same_text_in_both_splits_is_refused_with_its_share():
    train = corpus("train", *LONG[:10])
    with pytest.raises(UsageError, match=r"100 % of the text .* the test split of mine and the"):
        refuse_shared(corpus("test", *LONG[:10]), train)
    with pytest.raises(UsageError, match="50 % of the text that is evaluated is also calibrated"):
        refuse_shared(corpus("test", *LONG[5:15]), train)
    with pytest.raises(UsageError, match="100 %"):
        refuse_shared(corpus("test", "a", "b"), corpus("train", "b", "a", *LONG))


def test_headings_and_a_few_documents_in_common_are_none_of_that():
    heading = "= Contents ="
    shared = corpus("test", *[heading] * 100, *LONG[9:19])
    refuse_shared(shared, corpus("train", heading, *LONG[:10]))
