"""A comparison of two revisions alternates, pairs, and finds "slower" only where the figures show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.compare import Side, in_pairs, ratio

OURS, THEIRS = (Side(Path(name), Path(name) / "python") for name in ("ours", "theirs"))


def test_ratio_of_given_pairs_has_students_interval() -> None:
    # Logarithms of mean 0.0953 and deviation 0.0674; the quantile is 2.776 for 4 degrees of freedom.
    found = ratio([(1.0, 1.0), (1.1, 1.0), (1.1, 1.0), (1.1, 1.0), (2.42, 2.0)])
    assert (found.mean, found.lower, found.upper) == pytest.approx((1.1, 1.0117, 1.1960), abs=5e-4)


def test_ratio_is_the_same_for_scaled_pairs() -> None:
    """One pair may run on a busy machine, and both of its sides then cost more."""
    quiet = [(1.2, 1.0), (1.21, 1.0), (1.19, 1.0), (1.2, 1.0), (1.2, 1.0)]
    busy = [(ours * factor, theirs * factor) for (ours, theirs), factor in zip(quiet, (1, 9, 1, 4, 2), strict=True)]
    assert ratio(busy).lower == pytest.approx(ratio(quiet).lower)


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(1.0, 1.0)] * 5, "not slower"),
        ([(1.06, 1.0)] * 5, "slower"),
        ([(1.05, 1.0)] * 5, "not slower"),
        ([(0.9, 1.0)] * 5, "faster"),
        # A mean of 1.3 that one outlier has made.
        ([(1.0, 1.0)] * 4 + [(3.7, 1.0)], "not slower"),
        ([(1.2, 1.0), (1.1, 1.0)] * 5, "slower"),
    ],
)
def test_verdict_of_pairs(pairs: list[tuple[float, float]], verdict: str) -> None:
    assert ratio(pairs).verdict == verdict


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        ratio([(1.0, 1.0)] * 4)


def test_runs_alternate_and_the_first_pair_is_not_counted() -> None:
    runs: list[Side] = []

    def measure(side: Side) -> dict[str, float]:
        runs.append(side)
        return {"cost": 100.0 if len(runs) == 2 else 2.0 if side is OURS else 1.0}

    found = in_pairs(OURS, THEIRS, 5, measure)["cost"]
    assert (found.lower, found.upper) == pytest.approx((2.0, 2.0))
    assert runs == [THEIRS, OURS, OURS, THEIRS] * 3
