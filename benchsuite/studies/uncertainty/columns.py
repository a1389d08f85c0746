"""What the records and items of the study hold beside its parameters and metrics."""

from benchsuite.studies import columns as shared
from benchsuite.study import Column

COLUMNS = (
    *(column for column in shared.ASKED if column.name == "correct"),
    Column("question_id", "", "a question's id"),
    Column("question", "", "its words"),
    Column("passage", "", "the passage that it is about, or nothing"),
    Column("expected", "", "the right answer; alternatives are apart by |"),
    Column("answer", "", "the greedy answer"),
    Column("n_tokens", "tokens", "length of the answer"),
    Column("tokens", "nats", "JSON: each token of the answer with its log-probability"),
    Column("f1", "%", "overlap of the words of the answer and the right one"),
    Column("exact", "", "whether it is the right answer letter by letter, normalized"),
    Column(
        "abstained", "", "of an item whether, of a record how often, it says there is no answer"
    ),
    Column("answerable", "", "whether the passage has an answer"),
    Column("uncertainty", "the score's own", "how unsure the answer was; missing if undefined"),
    Column("exact_match", "0 to 1", "answers that are right letter by letter, normalized"),
    Column("auroc_ci95", "", "interval of the AUROC"),
    Column("rejection_area", "", "area under the accuracy by coverage"),
    Column("rejection_accuracy", "0 to 1", "accuracy at twenty coverages"),
    Column("brier*", "", "Brier score, its interval, and that of the share of right answers"),
    Column("ece*", "", "expected calibration error, and what it would be if none were wrong"),
    Column("reliability", "", "the bins of the calibration error"),
    Column("n_scored", "", "questions with a score"),
    Column("n_wrong", "", "of these, those answered wrong"),
    Column("n_questions", "", "questions"),
    Column("n", "", "questions that were asked"),
    Column("quantization", "", "the library and the setting that made the precision"),
    Column("similarity", "", "what tells how alike two texts are"),
    Column("ended_by.*", "", "how many answers ended in this way"),
    Column("undefined.*", "", "questions without a score, for this reason"),
    Column("*_undefined", "", "why a number is missing"),
    Column("parts.*", "", "the same of answerable and unanswerable questions alone"),
    Column("questions_asked", "", "the question set"),
    Column("questions_left_out*", "", "questions that could not be put, by reason"),
    Column("demonstrations_shown", "", "train questions that were shown with the model's answers"),
    Column("protocol_lacks*", "", "what the published protocol has and this run has not"),
    Column("examples_from", "", "where worked examples come from"),
    Column("in_chat_template", "", "whether the question stood in the tokenizer's chat template"),
)
