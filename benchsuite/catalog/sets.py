"""The text corpora and task sets that are known by name."""

from benchsuite.catalog.entries import CorpusEntry, TaskEntry, register

register(CorpusEntry("embedded_text", embedded=True))
register(CorpusEntry("wikitext2", "Salesforce/wikitext", "wikitext-2-raw-v1"))
register(CorpusEntry("c4", "allenai/c4", "en"))
register(CorpusEntry("mathqa", "allenai/math_qa", column="Problem"))

for _name, _schema in (
    ("closed_book", "question"),
    ("passages", "question"),
    ("four_choices", "choice"),
    ("word_problems", "problem"),
    ("word_problems_sentences", "problem"),
    ("word_problems_hard", "problem"),
    ("word_problems_rephrased", "problem"),
):
    register(TaskEntry(_name, _schema, embedded=True))

register(TaskEntry("arc_challenge", "choice", "allenai/ai2_arc", "ARC-Challenge"))
register(TaskEntry("arc_easy", "choice", "allenai/ai2_arc", "ARC-Easy"))
register(TaskEntry("mmlu", "choice", "cais/mmlu", "all", examples="dev"))
register(TaskEntry("hellaswag", "choice", "Rowan/hellaswag", split="validation"))
register(TaskEntry("squad_v2", "question", "rajpurkar/squad_v2", "squad_v2", split="validation"))
register(
    TaskEntry("trivia_qa", "question", "mandarjoshi/trivia_qa", "rc.nocontext", split="validation")
)
register(
    TaskEntry("nq", "question", "google-research-datasets/nq_open", "nq_open", split="validation")
)
register(TaskEntry("bioasq", "question", "kroshan/BioASQ", split="validation"))
register(TaskEntry("gsm8k", "problem", "openai/gsm8k", "main"))
register(TaskEntry("gsm_hard", "problem", "reasoning-machines/gsm-hard", split="train"))
# GSM8K augmented, with steps as equations and as sentences: what latent reasoning is trained on.
register(TaskEntry("gsm8k_aug", "problem", "whynlp/gsm8k-aug", split="train"))
register(TaskEntry("gsm8k_aug_nl", "problem", "whynlp/gsm8k-aug-nl", split="train"))
register(TaskEntry("svamp", "problem", "ChilleD/SVAMP"))
# CODI and KaVa ask all 1,000 problems; the hub's copy holds 700 of them as a train split.
register(TaskEntry("svamp_all", "problem", "ChilleD/SVAMP", split="train+test"))
register(TaskEntry("multi_arith", "problem", "ChilleD/MultiArith"))
register(TaskEntry("openmath", "problem", "nvidia/OpenMathInstruct-2", split="train"))
