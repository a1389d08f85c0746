"""The studies that ship with the project: a folder each, with declaration, report and figures."""
