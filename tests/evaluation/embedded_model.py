"""One embedded model for the tests of this room, in fp32."""

import functools

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchsuite.embedded import models


@functools.cache
def load(name="tiny_llama_1m"):
    folder = models.path(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)
