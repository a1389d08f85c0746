"""Columns of records and items that several studies have, each declared once."""

from benchsuite.study import Column

TEXT = (
    Column("evaluated_tokens", "tokens", "how many the text measures are over"),
    Column("weights_sha256", "SHA-256", "of the model that the method made"),
    Column("selection.*", "", "the sampler's details"),
    Column("calibration_source", "", "where the calibration text comes from"),
    Column("raised_damping", "", "layers whose Hessian needed more damping"),
    Column("chunk", "", "an evaluated chunk's place in its text and a digest of its tokens"),
    Column("chunk_nll", "nats a token", "mean loss of a chunk"),
)
ASKED = (
    Column("question_sets.*", "", "what was asked: the set, its split and digest, the prompt"),
    Column("question_set", "", "which of the study's question sets it is of"),
    Column("question", "", "a question's id"),
    Column("correct", "", "whether the answer counts as right"),
)
