"""Inference over records: what is claimed, how it is tested, and how a verdict is worded."""
