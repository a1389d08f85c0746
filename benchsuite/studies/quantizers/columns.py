"""What the records and items of the study hold beside its parameters and metrics."""

from benchsuite.studies import columns as shared
from benchsuite.study import Column

COLUMNS = (
    *shared.TEXT,
    *shared.ASKED,
    Column("chunk_kl", "nats a token", "mean divergence from the original model's predictions"),
    Column(
        "chunk_passage",
        "nats",
        "JSON, of the worst chunks: the tokens in a row that moved most, each with its KL",
    ),
    Column("passage", "", "the passage that questions share, or the question's own id"),
    Column("answer", "", "the answer that was read, as text; of a choice the option's number"),
    Column("size_before_mb", "MB", "the original in the dtype that it is stored in"),
    Column("size_after_mb", "MB", "the model as it is saved"),
    Column("compression_ratio", "", "the first over the second"),
    Column("flipped_ci95", "%", "interval of the flipped answers, over questions"),
    Column("flipped_by_set.*", "%", "flipped answers of one question set"),
    Column("accuracy_change", "percentage points", "right answers, against the original's"),
    Column("accuracy_change_ci95", "percentage points", "its interval, over questions"),
    Column("maths_mean_difference", "", "of the right number and the one read"),
    Column("maths_median_difference", "", "the same, its median"),
    Column("n_questions_asked.*", "", "questions of one set"),
    Column("latency_simulated", "", "true where the format is only simulated, and so its time"),
    Column("*latency_seconds", "s", "from the prompt to the last token"),
    Column("*first_token_seconds", "s", "from the prompt to the first token"),
    Column("*token_seconds", "s", "a token after the first"),
    Column("*tokens_per_second", "tokens/s", "of the whole batch"),
    Column("*decoding_path", "", "whether a token was a CUDA graph or eager"),
    Column("inference_memory_bytes", "bytes", "peak while the model was timed"),
    Column("inference_memory_kind", "", "of which memory: of the device, or of the process"),
)
