"""One Chromium for all tests of a worker, and tabs of it."""

import pytest

from tests.browser import Browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium without a window."""
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def tab(browser):
    """An empty tab of 1280 pixels that must not complain of what it shows."""
    page = browser.page()
    yield page
    told = page.complaints()
    page.close()
    assert told == []
