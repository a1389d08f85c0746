"""The study ``uncertainty``: its declaration, its report, its figures."""
