"""Judged claims as JUnit XML, which continuous integration shows beside the cells' own."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from benchsuite.reporting.results import StudyResults

# XML 1.0 has no place for most control characters, which a record's string may hold.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(studies: Sequence[StudyResults]) -> str:
    """Return one suite per study and one case per claim and model.

    A violated claim is a failure; one that is inconclusive or not run is skipped, with its sentence
    as the message. No time is stated: judging is not what is measured.
    """
    root = ET.Element("testsuites", name="benchsuite claims")
    for results in studies:
        outcomes = [judgement.outcome for judgement in results.judgements]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=results.study.name,
            tests=str(len(outcomes)),
            failures=str(outcomes.count("violated")),
            errors="0",
            skipped=str(sum(o in ("inconclusive", "not_run") for o in outcomes)),
        )
        words = f" ({results.apart})" if results.apart else ""
        for judgement in results.judgements:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=clean(f"{results.study.name}.{judgement.model}{words}"),
                name=clean(judgement.claim.sentence),
            )
            if judgement.outcome == "held":
                ET.SubElement(case, "system-out").text = clean(judgement.sentence)
            else:
                tag = "failure" if judgement.outcome == "violated" else "skipped"
                word = judgement.outcome.replace("_", " ")
                ET.SubElement(case, tag, message=clean(f"{word}: {judgement.sentence}"))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def clean(text: str) -> str:
    """Return text without the characters that XML has no place for."""
    return _NOT_XML.sub("\ufffd", text)
