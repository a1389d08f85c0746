"""What tests of several commands share."""

import pytest

from benchsuite.comparing import measure, questions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def done(monkeypatch):
    """What is measured: readings of the text, and sets asked."""
    found = []
    read, ask = measure.read, questions.ask

    def reading(*args, **options):
        found.append("text")
        return read(*args, **options)

    def asking(subject, asked, **options):
        found.append(f"{subject.name} {asked.name}")
        return ask(subject, asked, **options)

    monkeypatch.setattr(measure, "read", reading)
    monkeypatch.setattr(questions, "ask", asking)
    return found
