import warnings

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(autouse=True)
def _no_warnings():
    """A guard answers with a reason; a warning on the way is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
