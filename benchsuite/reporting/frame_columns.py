"""What the columns of `load_records` and `load_items` are, and in which unit.

What the harness writes stands here. A study's own parameters and metrics say it themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchsuite.records.forms import SEAL
from benchsuite.records.record import TIME
from benchsuite.reporting.load import OF, PLACE
from benchsuite.study import Metric, Parameter, Study


@dataclass(frozen=True)
class Column:
    """One column, or a family of them with a ``*``: its unit (nothing for none), its meaning."""

    name: str
    unit: str
    meaning: str


RECORDS: tuple[Column, ...] = (
    Column("path", "", "the file that the row was read from"),
    Column("model", "", "the model's name on the hub; embedded ones are `benchsuite/<name>`"),
    Column("method", "", "the method under test"),
    Column("seed", "", "the seed from which everything random in the cell was drawn"),
    Column("weights", "", "embedded, hub, local, dequantized, random, checkpoint or unknown"),
    Column("stand_in", "", "why these are not the weights of the model that is named, if so"),
    Column("weights_digest", "SHA-256", "of the weights that were loaded"),
    Column("outcome", "", "passed, failed or crashed; unknown for a foreign file without a number"),
    Column("error.message", "", "why the cell failed"),
    Column("error.stage", "", "the stage in which it failed"),
    Column("error", "", "empty where the cell passed"),
    Column("started_at", "UTC", "when the cell began, ISO 8601"),
    Column("peak_memory_bytes", "bytes", "peak while the cell ran, of the GPU or the process"),
    Column("streamed", "", "true where the model came to the device block by block"),
    Column("schema_version", "", "of the record's flat form"),
    Column("cell.study", "", "the study"),
    Column("cell.id", "", "the cell's name in pytest"),
    Column("cell.name", "", "the cell's file name"),
    Column("cell.axes.*", "", "the cell's point of the grid; `cell.axes.model` is catalogued"),
    Column("cell.parameters.*", "", "a parameter of the cell"),
    Column("cell.changed.*", "", "the same where it is not the study's default"),
    Column("fingerprint.*", "SHA-256", "what the record stands for, and its three digests"),
    Column("environment.threads", "", "CPU threads of the cell"),
    Column("environment.*", "", "versions, platform and device"),
    Column("timings.contended", "", "true where another cell ran on the device"),
    Column("timings.*", "s", "really spent, by stage and in total"),
    Column(f"selection_shared{TIME}", "s", "the part of selection done once for all cells"),
    Column(f"*_spent{TIME}", "s", "what a stage took this time"),
    Column(f"total{TIME}", "s", "the stages that make what is tried, without evaluation"),
    Column(f"*{TIME}", "s", "a stage, with the full cost of what cells share"),
    Column("items.file", "", "the Parquet file of the record's items"),
    Column("items.columns", "", "its columns"),
    Column("items.sha256", "SHA-256", "its digest"),
    Column("items", "", "empty where the record has none"),
    Column("results_sha256", "SHA-256", "of all measured values and items without times"),
    Column(SEAL, "SHA-256", "of the whole record, in the store or of its older flat form"),
    Column("weights_sha256", "SHA-256", "of the model that the method made"),
    Column("evaluated_tokens", "tokens", "how many the text measures are over"),
    Column("downstream.*", "%", "accuracy of a downstream task, and their average"),
    Column("downstream_n.*", "", "items of a downstream task"),
    Column("downstream_stderr.*", "percentage points", "standard error of a downstream task"),
    Column("question_sets.*", "", "what was asked: the set, its split and digest, the prompt"),
    Column("selection.*", "", "the sampler's details"),
    Column("calibration_source", "", "where the calibration text comes from"),
    Column("size_before_mb", "MB", "the original in the dtype that it is stored in"),
    Column("size_after_mb", "MB", "the model as it is saved"),
    Column("compression_ratio", "", "the first over the second"),
    Column("flipped_ci95", "%", "interval of the flipped answers, over questions"),
    Column("flipped_by_set.*", "%", "flipped answers of one question set"),
    Column("accuracy_change", "percentage points", "right answers, against the original's"),
    Column("accuracy_change_ci95", "percentage points", "its interval, over questions"),
    Column("accuracy_stderr", "percentage points", "standard error of the accuracy"),
    Column("accuracy_gain", "percentage points", "accuracy over the untrained network's"),
    Column("*latency_seconds", "s", "from the prompt to the last token"),
    Column("*first_token_seconds", "s", "from the prompt to the first token"),
    Column("*token_seconds", "s", "a token after the first"),
    Column("*tokens_per_second", "tokens/s", "of the whole batch"),
    Column("inference_memory_bytes", "bytes", "peak while the model was timed"),
    Column("latency_simulated", "", "true where the format is only simulated, and so its time"),
    Column("loss_parts.*", "nats", "parts of the last training loss"),
    Column("configuration.*", "", "a setting of the training"),
    Column("parts.*", "", "the same of answerable and unanswerable questions alone"),
    Column("exact_match", "0 to 1", "answers that are right letter by letter, normalized"),
    Column("brier*", "", "Brier score, its interval, and that of the share of right answers"),
    Column("ece*", "", "expected calibration error, and what it would be if none were wrong"),
    Column("auroc_ci95", "", "interval of the AUROC"),
    Column("*_undefined", "", "why a number is missing"),
    Column("n_*", "", "a number of items"),
    Column("n", "", "number of items"),
)

ITEMS: tuple[Column, ...] = (
    Column("cell.study", "", "the study of the item's record"),
    Column("cell.axes.*", "", "the point of the grid: model, method, seed and further axes"),
    Column("weights", "", "as in the records"),
    Column(SEAL, "SHA-256", "the item's record: the same column of the records"),
    Column(OF, "", "the kind of item: the first of the columns that it came with"),
    Column(PLACE, "", "its place among its record's items of that kind, from 0"),
    Column("chunk", "", "an evaluated chunk's place in its text and a digest of its tokens"),
    Column("chunk_nll", "nats a token", "mean loss of a chunk"),
    Column("chunk_kl", "nats a token", "mean divergence from the original model's predictions"),
    Column("question", "", "a question's id; in uncertainty its words"),
    Column("question_id", "", "a question's id, where its words stand beside it"),
    Column("question_set", "", "which of the study's question sets it is of"),
    Column("passage", "", "the passage that questions share, or the question's own id"),
    Column("answer", "", "the answer that was read, as text; of a choice the option's number"),
    Column("prediction", "", "the number that was read from the answer"),
    Column("expected", "", "the right answer; alternatives are apart by |"),
    Column("correct", "", "whether the answer counts as right"),
    Column("exact", "", "whether it is the right answer letter by letter, normalized"),
    Column("f1", "%", "overlap of the words of both"),
    Column("abstained", "", "whether the model said that the passage has no answer"),
    Column("answerable", "", "whether the passage has an answer"),
    Column("uncertainty", "the score's own", "how unsure the answer was; missing if undefined"),
    Column("n_tokens", "tokens", "length of the answer"),
    Column("tokens", "nats", "JSON: each token of the answer with its log-probability"),
    Column("passes", "", "forward passes to the answer"),
    Column("n_steps", "", "steps of the problem's worked solution"),
    Column("latents", "", "JSON: the words nearest to each latent thought"),
    Column("loss", "nats", "training loss, the sum of its parts; an optimizer step a row"),
    Column("served_prompt", "", "which prompt a served token followed"),
    Column("served_token", "", "the token's id"),
    Column("served_rank", "", "its rank under the original model, 0 for the likeliest"),
    Column(
        "served_margin", "logits", "how far it lies behind the token that the original would draw"
    ),
)


def described(
    names: Iterable[str], known: Sequence[Column], studies: Iterable[Study]
) -> list[Column]:
    """Return what each column is: as ``known`` or a study says it, or without a meaning."""
    declared = list(studies)
    return [_described(name, known, declared) for name in names]


def _described(name: str, known: Sequence[Column], studies: Sequence[Study]) -> Column:
    for column in known:
        if column.name == name:
            return column
    parameter = name.removeprefix("cell.parameters.")
    for study in studies:
        if parameter in study.parameters:
            told: Parameter = study.parameters[parameter]
            return Column(name, "", f"parameter: {told.help or parameter.replace('_', ' ')}")
        for metric in study.metrics:
            if name == metric.name or (metric.parts and name.startswith(f"{metric.name}.")):
                return Column(name, unit_of(metric), _meaning(study, metric))
    for column in known:
        if fnmatchcase(name, column.name):
            return Column(name, column.unit, column.meaning)
    return Column(name, "", "the study's own")


def unit_of(metric: Metric) -> str:
    """Return the unit of a metric's numbers as they are stored."""
    if (metric.unit, metric.scale) == ("%", 100):
        return "0 to 1"
    return metric.unit if metric.scale == 1 else f"{metric.unit} / {metric.scale:g}"


def _meaning(study: Study, metric: Metric) -> str:
    side = f", {metric.better} is better" if metric.better else ""
    return f"metric of {study.name}: {metric.label or metric.name}{side}"


def as_markdown(columns: Iterable[Column]) -> str:
    """Return columns as a Markdown table."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    for column in columns:
        meaning = column.meaning.replace("|", "\\|")
        lines.append(f"| `{column.name}` | {column.unit} | {meaning} |")
    return "\n".join(lines) + "\n"
