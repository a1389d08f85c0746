"""What the records and items of the study hold beside its parameters and metrics."""

from benchsuite.study import Column

COLUMNS = (
    Column("served_prompt", "", "which prompt a served token followed"),
    Column("served_token", "", "the token's id"),
    Column("served_rank", "", "its rank under the original model, 0 for the likeliest"),
    Column("served_margin", "logits", "how far it lies behind what the original would draw"),
    Column("variant", "", "the method, in the source document's word"),
    Column("experiment", "", "the same as one line"),
    Column("quantization", "", "its format of weights"),
    Column("engine", "", "its inference engine"),
    Column("description", "", "what it is"),
    Column("note", "", "what else is to be known of it"),
    Column("published_checkpoint*", "", "the hub's checkpoint that ran in the model's place"),
    Column("weights_sha256", "SHA-256", "of the model that was quantized for the engine"),
    Column("config.*", "", "a setting, in the source document's word"),
    Column("success", "", "whether the engine ran"),
    Column("timestamp", "UTC", "when the cell began, ISO 8601"),
    Column("kernels.*", "", "the GPU kernels of the batch alone, by kind"),
    Column("kernels_in_batch.*", "", "the same with further prompts in the batch"),
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
