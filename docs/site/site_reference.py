"""x"""


def reference_pages():
    """x"""
    return {}
