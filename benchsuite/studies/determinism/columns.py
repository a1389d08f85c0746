"""What the records and items of the study hold beside its parameters and metrics."""

from benchsuite.study import Column

COLUMNS = (
    Column("served_prompt", "", "which prompt a served token followed"),
    Column("served_token", "", "the token's id"),
    Column("served_rank", "", "its rank under the original model, 0 for the likeliest"),
    Column("served_margin", "logits", "how far it lies behind what the original would draw"),
    Column("bit_exact", "", "whether every repetition gave the same bits"),
    Column("same_codes", "", "whether quantizing again gave the same codes"),
    Column("baseline.*", "", "the same batch asked again and again"),
    Column("deterministic.*", "", "the same in the engine's deterministic mode"),
    Column("axes.*", "", "one thing changed at a time: batch, process, threads, device"),
    Column("kernel.*", "", "which kernels ran, and whether they are those that were asked for"),
    Column("verdict.*", "", "what all of it says"),
    Column("verification.*", "", "served tokens held against the original"),
    Column("loaded.*", "", "what the engine said of what it loaded"),
)
