"""Measures this tree against a revision, in alternating runs: `make bench-compare REV=main~20`.

    python -m benchmarks.compare REV [--pairs 10] [wire scale]

The revision gets a worktree and an environment of its own, with the packages that it had locked. In each pair both
run once, and the order changes from pair to pair; a first pair warms up and is not counted. A figure is a cost, hence
a ratio above 1 means that this tree is slower; its mean is the geometric one, and its interval (95 %) is Student's of
the logarithms. "slower", and exit code 1, only where the interval's lower bound is above 1.05.

wire     cached launches and one build with many watchers: the program of each side, under the load of this tree
scale    a simulated day on Kubernetes: the benchmark of each side, since it drives the library from within
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

ROOT: Final = Path(__file__).parents[1]
MOST: Final = 1.05
"""The ratio up to which a difference is no news."""
FEWEST: Final = 5
"""Pairs; with fewer, the interval is as good as none."""

Costs = Mapping[str, float]
"""By figure, what one run has cost."""


@frozen
class Side:
    """One of the two: its checkout, and the interpreter of its environment."""

    tree: Path
    python: Path


@frozen
class Ratio:
    """What this tree costs, as a multiple of what the revision costs."""

    mean: float
    lower: float
    upper: float

    @property
    def verdict(self) -> str:
        if self.lower > MOST:
            return "slower"
        return "faster" if self.upper < 1 / MOST else "not slower"


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The paired ratio of (this tree's cost, the revision's cost), with its interval."""
    if len(pairs) < FEWEST:
        raise ValueError(f"{len(pairs)} pairs are too few: at least {FEWEST}")
    logs = [math.log(ours / theirs) for ours, theirs in pairs]
    mean = statistics.fmean(logs)
    half = _student(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _student(freedom: int) -> float:
    """Student's 97.5 % quantile, by the expansion of Cornish and Fisher: within 0.3 % from 4 degrees of freedom."""
    z = statistics.NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _run(side: Side, folder: Path, *words: str) -> str:
    done = subprocess.run([str(side.python), "-m", *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def wire(side: Side) -> Costs:
    """Seconds to `ready` and processor seconds for a launch; processor microseconds for a line to a watcher."""
    costs = {}
    for line in _run(side, ROOT, "benchmarks.wire.run", "a", "b", "--quick").splitlines():
        row: dict[str, Any] = json.loads(line)
        match row["part"]:
            case "a":
                costs[f"wire: ready, {row['clients']} clients"] = row["ready_p50"]
                costs[f"wire: CPU per launch, {row['clients']} clients"] = row["cpu_per_launch"]
            case "b":
                costs[f"wire: CPU per line, {row['watchers']} watchers"] = row["cpu_us_per_line"]
    return costs


def scale(side: Side) -> Costs:
    """Processor time for a launch within a simulated day."""
    result = json.loads(_run(side, side.tree, "benchmarks.scale.run", "--times", "0.3", "--seconds", "20"))
    return {"scale: CPU per launch": result["CPU per launch (ms)"]}


MEASURES: Final[Mapping[str, Callable[[Side], Costs]]] = {"wire": wire, "scale": scale}


def in_pairs(ours: Side, theirs: Side, pairs: int, measure: Callable[[Side], Costs]) -> dict[str, Ratio]:
    """Measures both `pairs` times, after a pair that warms up."""
    measured = []
    for number in range(pairs + 1):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        costs = {side: measure(side) for side in order}
        if number:
            measured.append((costs[ours], costs[theirs]))
    return {name: ratio([(mine[name], other[name]) for mine, other in measured]) for name in measured[0][0]}


@contextmanager
def checkout(revision: str) -> Iterator[Side]:
    """The revision in a worktree, with an environment of the same Python."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        worktree = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*worktree, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            python = f"PYTHON={sys.base_prefix}/bin/python3"
            # The variables of a `make` that runs this are not for that one.
            command = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "-C", str(tree), python]
            subprocess.run([*command, ".venv/.ready-test"], stdout=sys.stderr, check=True)
            yield Side(tree, tree / ".venv" / "bin" / "python")
        finally:
            subprocess.run([*worktree, "remove", "--force", str(tree)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revision", help="what git takes for a revision")
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"of {', '.join(MEASURES)}; usually all")
    parser.add_argument("--pairs", type=int, default=10, help=f"at least {FEWEST}; usually 10")
    arguments = parser.parse_args()
    if arguments.pairs < FEWEST or not set(arguments.measures) <= set(MEASURES):
        parser.error(f"at least {FEWEST} pairs, of {', '.join(MEASURES)}")
    slower = False
    with checkout(arguments.revision) as theirs:
        for name in arguments.measures or MEASURES:
            ratios = in_pairs(Side(ROOT, Path(sys.executable)), theirs, arguments.pairs, MEASURES[name])
            for figure, one in ratios.items():
                print(
                    f"{figure:40} {one.mean:6.3f}  [{one.lower:.3f}, {one.upper:.3f}]  {one.verdict}",
                    flush=True,
                )
                slower |= one.verdict == "slower"
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
