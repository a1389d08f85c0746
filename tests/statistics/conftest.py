import warnings

import pytest


@pytest.fixture(autouse=True)
def _no_warnings():
    """A guard answers with a reason; a warning on the way is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
