import gzip
import json

import pytest
from huggingface_hub import constants

from benchsuite.corpora import load_text, text_digest
from benchsuite.errors import CellCannotRun, UsageError
from tests.corpora.conftest import ROWS, write_parquet

COMMIT = "b" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def _repository(cache, name):
    repository = cache / f"datasets--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


def test_a_cached_data_set_is_read_offline(cache):
    snapshot = _repository(cache, "Salesforce--wikitext")
    for split, rows in ROWS.items():
        write_parquet(snapshot / "wikitext-2-raw-v1" / f"{split}-00000-of-00001.parquet", rows)

    corpus = load_text("wikitext2", "test")

    assert corpus.documents == tuple(row for row in ROWS["test"] if row)
    assert (corpus.source, corpus.revision) == ("hub", COMMIT)
    assert text_digest("wikitext2", "test") == COMMIT


def test_offline_and_not_cached_says_what_to_do(cache):
    assert text_digest("wikitext2", "test") == "main"
    with pytest.raises(CellCannotRun, match=r"HF_HUB_OFFLINE.*--local wikitext2=PATH"):
        load_text("wikitext2", "test")


def test_another_configuration_in_the_cache_does_not_count(cache):
    snapshot = _repository(cache, "Salesforce--wikitext")
    write_parquet(snapshot / "wikitext-103-raw-v1" / "test-00000-of-00001.parquet", ["other"])

    with pytest.raises(CellCannotRun, match="not in the hub's cache"):
        load_text("wikitext2", "test")


def test_c4_is_the_beginning_of_its_first_shard(cache):
    shard = _repository(cache, "allenai--c4") / "en" / "c4-train.00000-of-01024.json.gz"
    shard.parent.mkdir(parents=True)
    with gzip.open(shard, "wt") as stream:
        stream.writelines(json.dumps({"text": f"page {i}"}) + "\n" for i in range(20_010))

    corpus = load_text("c4", "train")

    assert len(corpus.documents) == 20_000
    assert corpus.documents[-1] == "page 19999"


def test_c4_has_no_test_split(cache):
    with pytest.raises(UsageError, match="train, validation"):
        load_text("c4", "test")
