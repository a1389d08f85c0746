"""What the parts of a typed record hold, and their units: what no declaration in the code says."""

from collections.abc import Mapping

FIELDS: Mapping[str, Mapping[str, str]] = {
    "Record": {
        "cell": "`CellFacts`, below",
        "fingerprint": "`Fingerprint`, below",
        "environment": "versions, `device`, `device_kind`, `capability`, `driver`, `threads`",
        "source": "`Source`, below",
        "times": "`Times`, below: seconds",
        "values": "by study, below; equal for equal bits",
        "clocked": "by study, below; from run to run others",
        "items": "`Items`, below; null where there are none",
        "outcome": "`passed`, `failed` or `crashed`",
        "failure": "`Failure`, below; null where the cell passed",
        "started_at": "ISO 8601, UTC",
        "peak_memory_bytes": "bytes; null where the system cannot tell",
        "results_sha256": "of values and items: equal bits, equal digest",
        "sha256": "of all the rest; `record_sha256` in the file",
    },
    "CellFacts": {
        "study": "its name",
        "id": "what `-k` matches: `llama2_7b-random-seed42`",
        "name": "the exported file's name",
        "axes": "the model first, the seed last",
        "parameters": "every parameter in force; [units](parameters.md)",
        "changed": "those that are not the study's default",
    },
    "Fingerprint": {
        "inputs": "sha256 of axes, parameters, weights, texts",
        "code": "sha256 of the syntax trees that the cell reaches",
        "environment": "sha256 of versions and device",
    },
    "Source": {
        "weights": "`embedded`, `hub`, `local`, `dequantized`, `random`, `checkpoint`, `unknown`",
        "stand_in": "null, or why this is not the catalogued model",
        "weights_digest": "sha256 of what was loaded, or the commit",
        "hub_id": "the model's name on the hub",
    },
    "Times": {
        "spent": "seconds, by stage, as spent this time",
        "reported": "seconds, by stage, in the place of what was spent",
        "making": "seconds of the stages that make what the study tries",
        "contended": "true if another cell ran on the device",
    },
    "Items": {
        "file": "the Parquet file beside the record",
        "columns": "its columns, by study, below",
        "sha256": "of the file",
    },
    "Failure": {"message": "the error", "stage": "where the cell ended"},
}
