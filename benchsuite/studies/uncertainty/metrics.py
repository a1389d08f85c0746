"""How well an uncertainty tells wrong answers from right ones, as metrics."""

from benchsuite.study import Metric

AUROC = Metric(
    "auroc",
    better="higher",
    format=".3f",
    margin="0.01",
    ranking=("correct", "uncertainty"),
    ids="question_id",
    clusters="passage",
)
PR_AUC = Metric("pr_auc", better="higher", format=".3f", margin="0.01")
# The prediction-rejection ratio, PRR: how much of the way from chance to an oracle's rejections.
REJECTION = Metric("rejection_ratio", better="higher", format=".3f", margin="0.01")
