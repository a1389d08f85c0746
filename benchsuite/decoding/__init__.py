"""Decoding: a model's next tokens, greedy or drawn, by a plain loop and on a GPU in slots."""
