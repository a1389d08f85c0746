"""A small checkpoint, and a hub that has nothing."""

import pytest

from tests.models import tiny


@pytest.fixture
def checkpoint(tmp_path):
    return tiny.checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, without a network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"
