"""Tasks that are the subjects of one: MMLU's 57 files are one metric, a subject is a cluster."""

from collections.abc import Sequence

import numpy as np

from benchsuite.comparing.pairs import PairedItems

# How lm-eval begins the names of a group's tasks; the longest that fits counts.
PREFIXES = (
    *("mmlu_", "mmlu_pro_", "mmlu_continuation_", "mmlu_redux_", "mmlu_flan_n_shot_loglikelihood_"),
    *("mmlu_flan_n_shot_generative_", "mmlu_flan_cot_zeroshot_", "mmlu_flan_cot_fewshot_"),
    *("cmmlu_", "ceval-valid_", "bbh_cot_fewshot_", "bbh_zeroshot_", "leaderboard_bbh_"),
)


def grouped(
    found: Sequence[PairedItems],
) -> tuple[tuple[PairedItems, ...], tuple[PairedItems, ...]]:
    """Return the metrics with those of one group in one, and the subjects' own.

    A group needs two subjects. Its items are named ``SUBJECT/ID``, in clusters by subject.
    """
    groups: dict[str, list[tuple[str, PairedItems]]] = {}
    for items in found:
        group, subject = _place(items.metric)
        groups.setdefault(group or items.metric, []).append((subject, items))
    kept, subjects = [], []
    for metric, members in groups.items():
        if len(members) == 1:
            kept.append(members[0][1])
            continue
        kept.append(_joined(metric, members))
        subjects += [items for _, items in members]
    return tuple(kept), tuple(subjects)


def _place(metric: str) -> tuple[str, str]:
    """Return a metric's group and its subject: ``accuracy:mmlu`` and ``law``, or nothing."""
    kind, _, name = metric.partition(":")
    task, slash, rest = name.partition("/")
    fitting = [prefix for prefix in PREFIXES if task.startswith(prefix)]
    if not fitting:
        return "", ""
    prefix = max(fitting, key=len)
    return f"{kind}:{prefix.rstrip('_')}{slash}{rest}", task.removeprefix(prefix)


def _joined(metric: str, members: Sequence[tuple[str, PairedItems]]) -> PairedItems:
    return PairedItems(
        metric,
        tuple(f"{subject}/{each}" for subject, items in members for each in items.ids),
        np.concatenate([items.base for _, items in members]),
        np.concatenate([items.candidate for _, items in members]),
        tuple(subject for subject, items in members for _ in items.ids),
    )


def subject_line(items: PairedItems) -> str:
    """Return what one subject's questions gave, in a sentence: it is not judged."""
    off = items.candidate - items.base
    lost, gained = int((off < 0).sum()), int((off > 0).sum())
    one, two = 100 * items.base.mean(), 100 * items.candidate.mean()
    name = items.metric.partition(":")[2]
    return f"{name}: {one:.1f} % and {two:.1f} %, {lost} lost, {gained} gained of {len(off)}"
