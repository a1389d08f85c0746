"""The way of calibration data through a model, block by block, and what is gathered on it.

``walk`` stands at one block after another, ``visit`` is one block on every device,
``hidden_states`` is what goes into it. ``hessian``, ``energy`` and ``largest`` are what a layer's
inputs say, ``clock`` what each stage took.
"""
