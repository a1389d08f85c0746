import gzip
import json
from dataclasses import replace

import huggingface_hub
import pytest
from huggingface_hub import constants

from benchsuite import catalog
from benchsuite.corpora import load_text, text_digest
from benchsuite.errors import CellCannotRun, UsageError
from tests.corpora.conftest import COMMIT, ROWS, cached_set, write_parquet


def test_a_cached_data_set_is_read_offline(cache):
    snapshot = cached_set(cache, "Salesforce--wikitext")
    for split, rows in ROWS.items():
        write_parquet(snapshot / "wikitext-2-raw-v1" / f"{split}-00000-of-00001.parquet", rows)

    corpus = load_text("wikitext2", "test")

    assert corpus.documents == tuple(row for row in ROWS["test"] if row)
    assert (corpus.source, corpus.revision) == ("hub", COMMIT)
    assert f"Salesforce/wikitext@{COMMIT}" in text_digest("wikitext2", "test")


def test_offline_and_not_cached_says_what_to_do(cache):
    assert "Salesforce/wikitext@main" in text_digest("wikitext2", "test")
    with pytest.raises(CellCannotRun, match=r"HF_HUB_OFFLINE.*--local wikitext2=PATH"):
        load_text("wikitext2", "test")


def test_another_configuration_in_the_cache_does_not_count(cache):
    snapshot = cached_set(cache, "Salesforce--wikitext")
    write_parquet(snapshot / "wikitext-103-raw-v1" / "test-00000-of-00001.parquet", ["other"])

    with pytest.raises(CellCannotRun, match="not all in the hub's cache"):
        load_text("wikitext2", "test")


def test_the_digest_says_which_configuration_and_column_are_read(cache, monkeypatch):
    """All of them have one commit; an entry of one's own may come to name another."""
    entry = catalog.corpus("wikitext2")
    changes = [{}, {"config": "wikitext-103-raw-v1"}, {"column": "page"}, {"revision": "v2"}]
    found = set()
    for change in changes:
        monkeypatch.setitem(catalog.CORPORA, "wikitext2", replace(entry, **change))
        found.add(text_digest("wikitext2", "test"))
    assert len(found) == len(changes)


def test_a_download_that_was_cut_off_is_not_read_as_if_it_were_whole(cache):
    snapshot = cached_set(cache, "Salesforce--wikitext") / "wikitext-2-raw-v1"
    for shard in (0, 2):
        write_parquet(snapshot / f"train-0000{shard}-of-00003.parquet", [f"row {shard}"])
    write_parquet(snapshot / "test-00000-of-00001.parquet", ["whole"])

    with pytest.raises(CellCannotRun, match="not all in the hub's cache"):
        load_text("wikitext2", "train")
    assert load_text("wikitext2", "test").documents == ("whole",)

    write_parquet(snapshot / "train-00001-of-00003.parquet", ["row 1"])
    assert load_text("wikitext2", "train").documents == ("row 0", "row 1", "row 2")


def test_what_is_missing_is_downloaded_of_the_commit_that_the_digest_names(cache, monkeypatch):
    """The hub's answer is the one part that cannot run here."""
    snapshot = cached_set(cache, "Salesforce--wikitext")
    write_parquet(snapshot / "wikitext-2-raw-v1" / "train-00000-of-00001.parquet", ["a row"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def download(hub_id, revision, **options):
        folder = cache / f"datasets--Salesforce--wikitext/snapshots/{revision}"
        write_parquet(folder / "wikitext-2-raw-v1" / "test-00000-of-00001.parquet", ["another"])
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    before = text_digest("wikitext2", "test")
    assert load_text("wikitext2", "test").revision == COMMIT
    assert text_digest("wikitext2", "test") == before


def test_c4_is_the_beginning_of_its_first_shard(cache):
    shard = cached_set(cache, "allenai--c4") / "en" / "c4-train.00000-of-01024.json.gz"
    shard.parent.mkdir(parents=True)
    with gzip.open(shard, "wt") as stream:
        stream.writelines(json.dumps({"text": f"page {i}"}) + "\n" for i in range(20_010))

    corpus = load_text("c4", "train")

    assert len(corpus.documents) == 20_000
    assert corpus.documents[-1] == "page 19999"


def test_c4_has_no_test_split(cache):
    with pytest.raises(UsageError, match="train, validation"):
        load_text("c4", "test")
