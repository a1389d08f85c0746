"""What the records and items of both studies hold beside their parameters and metrics."""

from benchsuite.studies import columns as shared
from benchsuite.study import Column

TRAINING = (
    Column("loss", "nats", "training loss, the sum of its parts; an optimizer step a row"),
    Column("loss_parts.*", "nats", "parts of the last training loss"),
    Column("configuration.*", "", "a setting of the training"),
    Column("n_steps", "", "optimizer steps"),
)
REASONING = (
    *shared.ASKED,
    Column("prediction", "", "the number that was read from the answer"),
    Column("expected", "", "the right number"),
    Column("passes", "", "forward passes to the answer"),
    Column("n_steps", "", "steps of the problem's worked solution"),
    Column("latents", "", "JSON: the words nearest to each latent thought"),
    Column("accuracy_stderr", "percentage points", "standard error of the accuracy"),
    Column("accuracy_gain", "percentage points", "accuracy over the untrained network's"),
    Column("accuracy_gain_in_stderr", "standard errors", "the same in its own error"),
    Column("n_items_asked", "", "problems that were asked"),
)
