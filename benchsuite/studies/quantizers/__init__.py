"""The study ``quantizers``: its declaration, its report, its figures."""
