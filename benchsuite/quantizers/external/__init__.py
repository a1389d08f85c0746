"""Other people's libraries as methods: one adapter file per library, behind optional packages.

An adapter has a ``quantize`` like every method's and imports its library when called. What stands
around a library's work (its own copy of the model, a clean process afterwards, the account of what
it holds) is in ``guest``.
"""
