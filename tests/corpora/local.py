"""A corpus or task that comes from a folder."""

from benchsuite.catalog import Sources


def at(name, folder):
    return Sources(local={name: folder})
