"""Small pure functions over few seeds: describe, compare, power, interpret, judge claims.

No function here warns or returns NaN: where there is no answer, the result says so with its reason.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Description": "descriptive",
        "describe": "descriptive",
        "Comparison": "compare",
        "welch": "compare",
        "student": "compare",
        "paired": "compare",
        "one_sample": "compare",
        "holm": "compare",
        "permutation": "exact",
        "sign_flip": "exact",
        "smallest_p": "exact",
        "Equivalence": "equivalence",
        "tost": "equivalence",
        "EffectSize": "effect",
        "cohens_d": "effect",
        "hedges_g": "effect",
        "cohens_dz": "effect",
        "one_sample_d": "effect",
        "small_sample_correction": "effect",
        "ItemDifference": "item_tests",
        "item_bootstrap": "item_tests",
        "mcnemar": "item_tests",
        "Auroc": "ranking",
        "RejectionCurve": "ranking",
        "auroc": "ranking",
        "auroc_difference": "ranking",
        "pr_auc": "ranking",
        "rejection_curve": "ranking",
        "minimum_detectable_effect": "power",
        "power_of": "power",
        "seeds_needed": "power",
        "equivalence_margin": "power",
        "interval_half_width": "power",
        "guide": "interpret",
        "effect_label": "interpret",
        "evidence_label": "interpret",
        "two_std_rule": "interpret",
        "stability_class": "interpret",
        "Arm": "claims",
        "Judgement": "claims",
        "judge": "claims",
        "judge_family": "claims",
    },
)
