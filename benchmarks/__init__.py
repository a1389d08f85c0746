"""The benchmarks of the shipped studies, one file a study: the steps of its cells.

They install as ``benchsuite.benchmarks``; ``pytest --pyargs benchsuite.benchmarks`` runs them where
there is no checkout.
"""
