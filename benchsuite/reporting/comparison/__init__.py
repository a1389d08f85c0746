"""What a comparison of checkpoints says, in each form: terminal, Markdown, page, files, a gate.

``terminal`` has the sentences that the other forms repeat.
"""
