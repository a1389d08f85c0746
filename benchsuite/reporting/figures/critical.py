"""Where the parts of a critical-difference diagram stand, and whether a test supports one."""

from collections.abc import Mapping
from typing import Any

WIDTH, LEFT, RIGHT = 860, 230, 630  # the picture, and where its axis begins and ends
AXIS, STEP, BAR = 54, 22, 10  # the axis from above, from name to name, from bar to bar
ALPHA = 0.05


def tells_apart(ranks: Mapping[str, float], p_value: float | None, difference: float) -> bool:
    """Say whether the ranks differ at all, and two methods by the critical difference.

    Otherwise a diagram would show an order that no test supports.
    """
    spread = max(ranks.values()) - min(ranks.values())
    return p_value is not None and p_value < ALPHA and spread >= difference


def joined(ranks: Mapping[str, float], difference: float) -> list[tuple[float, float]]:
    """Return the widest spans of mean ranks that lie within the critical difference."""
    places = sorted(ranks.values())
    spans: list[tuple[float, float]] = []
    for low in places:
        high = max(p for p in places if p - low <= difference)
        if high > low and not any(a <= low and high <= b for a, b in spans):
            spans.append((low, high))
    return spans


def view(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the template draws of a row of mean ranks, or None without support.

    The better half of the methods stands on the left.
    """
    ranks, difference = row["mean_ranks"], row["critical_difference"]
    if difference is None or not tells_apart(ranks, row["p_value"], difference):
        return None
    k = len(ranks)

    def place(rank: float) -> float:
        return round(LEFT + (rank - 1) / (k - 1) * (RIGHT - LEFT), 1)

    spans = joined(ranks, difference)
    top = AXIS + 16 + BAR * len(spans)
    order, half = sorted(ranks.items(), key=lambda item: item[1]), (k + 1) // 2
    names = []
    for i, (method, rank) in enumerate(order):
        left = i < half
        y = top + STEP * (i if left else k - 1 - i)
        names.append(
            {"method": method, "rank": f"{rank:.2f}", "x": place(rank), "y": y, "left": left}
        )
    bars = [(place(a) - 4, place(b) + 4, AXIS + 14 + BAR * i) for i, (a, b) in enumerate(spans)]
    return {
        "size": (WIDTH, top + STEP * (half - 1) + 14),
        "axis": AXIS,
        "ends": (LEFT, RIGHT),
        "ticks": [(place(tick), str(tick)) for tick in range(1, k + 1)],
        "difference": (LEFT, place(1 + difference), f"critical difference {difference:.2f}"),
        "bars": bars,
        "names": names,
        "n_models": row["n_models"],
        "setting": row["setting"],
    }
