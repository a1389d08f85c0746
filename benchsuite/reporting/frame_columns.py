"""What the columns of `load_records` and `load_items` are, and in which unit.

What the harness writes stands here. A study's own parameters, metrics and columns say it
themselves.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from benchsuite.records.forms import SEAL
from benchsuite.records.record import TIME
from benchsuite.reporting.load import OF, PLACE
from benchsuite.study import Column, Metric, Parameter, Study

UNSAID = "the study's own"
"""The meaning of a column of which nobody says anything."""

RECORDS: tuple[Column, ...] = (
    Column("path", "", "the file that the row was read from"),
    Column(
        "model",
        "",
        "the model's name on the hub; embedded ones are `benchsuite/<name>`, one of a folder or a "
        "GGUF has the name that it was given",
    ),
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
    Column("model_not_saved", "", "why no checkpoint format holds the model, with --save-models"),
    Column("gguf_types.*", "", "of a GGUF file, how many tensors are of this type"),
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
    Column("downstream.*", "%", "accuracy of a downstream task, and their average"),
    Column("downstream_n.*", "", "items of a downstream task"),
    Column("downstream_stderr.*", "percentage points", "standard error of a downstream task"),
)

ITEMS: tuple[Column, ...] = (
    Column("cell.study", "", "the study of the item's record"),
    Column("cell.axes.*", "", "the point of the grid: model, method, seed and further axes"),
    Column("weights", "", "as in the records"),
    Column(SEAL, "SHA-256", "the item's record: the same column of the records"),
    Column(OF, "", "the kind of item: the first of the columns that it came with"),
    Column(PLACE, "", "its place among its record's items of that kind, from 0"),
)


def described(
    names: Iterable[str], known: Sequence[Column], studies: Iterable[Study]
) -> list[Column]:
    """Return what each column is: as ``known`` or a study says it, or without a meaning."""
    declared = list(studies)
    return [_described(name, known, declared) for name in names]


def _described(name: str, known: Sequence[Column], studies: Sequence[Study]) -> Column:
    ours = (_named(name, known), *_declared(name, studies), _like(name, known))
    families = (_like(name, study.columns) for study in studies)
    return next(filter(None, (*ours, *families)), Column(name, "", UNSAID))


def _named(name: str, columns: Sequence[Column]) -> Column | None:
    return next((column for column in columns if column.name == name), None)


def _like(name: str, columns: Sequence[Column]) -> Column | None:
    families = (column for column in columns if fnmatchcase(name, column.name))
    return next((Column(name, column.unit, column.meaning) for column in families), None)


def _declared(name: str, studies: Sequence[Study]) -> list[Column]:
    """Return what studies say of a column: all of them in one, where they do not say the same."""
    told = {s.name: found for s in studies if (found := _of_study(name, s))}
    meanings = {(column.unit, column.meaning) for column in told.values()}
    if len(meanings) < 2:
        return list(told.values())[:1]
    units = dict.fromkeys(column.unit for column in told.values())
    each = (f"{study}: {column.meaning}" for study, column in told.items())
    return [Column(name, " or ".join(filter(None, units)), "; ".join(each))]


def _of_study(name: str, study: Study) -> Column | None:
    parameter = name.removeprefix("cell.parameters.")
    if parameter in study.parameters:
        told: Parameter = study.parameters[parameter]
        return Column(name, "", f"parameter: {told.help or parameter.replace('_', ' ')}")
    for metric in study.metrics:
        if name == metric.name or (metric.parts and name.startswith(f"{metric.name}.")):
            return Column(name, unit_of(metric), _meaning(metric))
    axis = Column(name, "", "axis of the grid") if name in study.axes else None
    return _named(name, study.columns) or axis


def unit_of(metric: Metric) -> str:
    """Return the unit of a metric's numbers as they are stored."""
    if (metric.unit, metric.scale) == ("%", 100):
        return "0 to 1"
    return metric.unit if metric.scale == 1 else f"{metric.unit} / {metric.scale:g}"


def _meaning(metric: Metric) -> str:
    side = f", {metric.better} is better" if metric.better else ""
    return f"metric: {metric.label or metric.name}{side}"


def as_markdown(columns: Iterable[Column]) -> str:
    """Return columns as a Markdown table."""
    lines = ["| column | unit | meaning |", "|---|---|---|"]
    for column in columns:
        meaning = column.meaning.replace("|", "\\|")
        lines.append(f"| `{column.name}` | {column.unit} | {meaning} |")
    return "\n".join(lines) + "\n"
