"""Tests of the comparison of any two models."""
