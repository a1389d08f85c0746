"""The pages that people open: the report over all studies, its items, and the trend over nights.

``rendering`` makes the report, ``model`` one model's part of it, ``study_files`` shows what a
study's own reporter wrote. ``items`` are the side files that load on demand.
"""
