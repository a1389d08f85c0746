"""The study ``determinism``: its declaration, its report, its figures."""
