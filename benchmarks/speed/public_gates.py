"""What public accuracy gates can see: their questions, thresholds and published scatter, re-read.

Each row is what a pull request published of its gate's repeated runs with nothing changed: the
questions, the threshold, the mean of the scores and their standard deviation. From the deviation s
follows how many answers differ between two runs of one model, 2 n s^2, and from that what a paired
gate of these questions can confirm, and how many questions a margin needs.

    python benchmarks/speed/public_gates.py
"""

from dataclasses import dataclass

from scipy.special import ndtr

from benchsuite.statistics.paired_shares import items_needed, margin_confirmed

ALPHA, POWER = 0.05, 0.9


@dataclass(frozen=True)
class Gate:
    """One gate: shares, and the failures that its authors counted, in words."""

    name: str
    questions: int
    threshold: float
    mean: float
    deviation: float
    reported: str
    strict: bool = False  # fails at the threshold itself


GATES = (
    Gate("sglang-jax #1333", 200, 0.85, 0.860, 0.009, "12 of 61", strict=True),
    Gate("sglang #31702, H100", 200, 0.65, 0.6755, 0.0096, "intermittent"),
    Gate("sglang-jax #1382", 1319, 0.86, 0.8681, 0.003658, "about 2 %"),
    Gate("sglang #27342, gemma-2-27b", 1319, 0.86, 0.8550, 0.0015, "every night"),
    Gate("sglang #27342, gemma-2-2b FP8", 1319, 0.53, 0.5842, 0.0044, "none of 10"),
)


def main() -> None:
    """Print the table."""
    print(
        "| gate | questions | threshold below the mean | fails with nothing changed | reported "
        "| answers that differ between two runs | margin confirmed | questions for 2 points "
        "| for 1 point |"
    )
    print("|---" * 9 + "|")
    for gate in GATES:
        n, s = gate.questions, gate.deviation
        # Scores come in steps of 1 / n: half of one lies between failing and passing.
        edge = gate.threshold + (1 if gate.strict else -1) / (2 * n)
        fails = float(ndtr((edge - gate.mean) / s))
        differing = 2 * n * s**2
        margin = margin_confirmed(n, differing=differing, alpha=ALPHA, power=POWER)
        needed = [
            items_needed(points, loss=0, differing=differing, alpha=ALPHA, power=POWER)
            for points in (0.02, 0.01)
        ]
        print(
            f"| {gate.name} | {n:,} | {100 * (gate.mean - gate.threshold):.1f} points "
            f"| {100 * fails:.0f} % | {gate.reported} | {100 * differing:.1f} % "
            f"| {100 * margin:.1f} points | " + " | ".join(f"{k:,}" for k in needed if k) + " |"
        )
    print("\n| answers that differ | " + " | ".join(f"margin {m} points" for m in MARGINS) + " |")
    print("|---" * (1 + len(MARGINS)) + "|")
    for differing in (0.01, 0.03, 0.05, 0.1, 0.2, 0.3):
        needed = [
            items_needed(m / 100, loss=0, differing=differing, alpha=ALPHA, power=POWER)
            for m in MARGINS
        ]
        print(f"| {100 * differing:.0f} % | " + " | ".join(f"{k:,}" for k in needed) + " |")
    print("\n| questions | " + " | ".join(f"{100 * d:.0f} % differ" for d in SHARES) + " |")
    print("|---" * (1 + len(SHARES)) + "|")
    for n in (50, 100, 200, 500, 1000, 1319, 2000, 5000, 14042):
        found = [margin_confirmed(n, differing=d, alpha=ALPHA, power=POWER) for d in SHARES]
        print(f"| {n:,} | " + " | ".join(f"{100 * m:.1f} points" for m in found) + " |")


MARGINS = (0.5, 1, 2, 3, 5)
SHARES = (0.03, 0.1, 0.2)

if __name__ == "__main__":
    main()
