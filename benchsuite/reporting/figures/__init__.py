"""Figures as PNG and SVG: legible, told apart without colour vision, the same bytes every time."""
