"""Parameters that several studies have, each declared once: the texts, the grid, the questions.

A study whose embedded value is another takes ``dataclasses.replace(EVALUATION_TOKENS, ...)``.
"""

from benchsuite.evaluation import chat, fitting
from benchsuite.study import Parameter

N_CALIBRATION_SAMPLES = Parameter(
    128, embedded=32, least=1, tokens_of=("quant",), help="calibration sequences"
)
SEQ_LEN = Parameter(
    2048,
    embedded=256,
    least=2,
    tokens_of=("quant",),
    help="tokens per sequence, in calibration and evaluation",
)
GROUP_SIZE = Parameter(
    128, least=-1, never=(0,), help="weights that share a scale; -1 is a whole row"
)
CALIBRATION_CORPUS = Parameter(
    "wikitext2",
    embedded="embedded_text",
    reads="corpus:train",
    help="its train split is the pool of what is calibrated on",
)
POOL_DOCUMENTS = Parameter(
    0, embedded=2000, help="a fixed part of the pool for every sampler and seed; 0 is all"
)
EVALUATION_CORPUS = Parameter(
    "wikitext2", embedded="embedded_text", reads="corpus:test", help="its test split is evaluated"
)
EVALUATION_TOKENS = Parameter(
    0,
    embedded=32768,
    tokens_of=("evaluation",),
    counted_as="evaluated_tokens",
    help="the first tokens of it; 0 is all",
)

# Of the studies that ask questions.
CHAT_TEMPLATE = Parameter(
    "auto",
    choices=chat.SETTINGS,
    help="ask in the tokenizer's chat template; auto is wherever it has one",
)
MOST_LEFT_OUT = Parameter(
    fitting.MOST_LEFT_OUT,
    help="percent of a set's questions that may exceed the model's context and be left out",
)
