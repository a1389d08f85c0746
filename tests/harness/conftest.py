"""Fixtures that several tests of sessions share."""

from tests.harness.gated import gated

__all__ = ["gated"]
