"""A bound for the label `repo`: the most frequent repositories are named, the others counted together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.samples import Sample

from .secret import redact_encoded

OTHER: Final = "(other)"


class FrequentRepos:
    """Counts under labels ``status, provider, repo`` for at most `limit` repositories.

    A newcomer takes the place of the least frequent one and inherits its count for the comparison, so that
    whoever has more than one in `limit` of all stays (the algorithm Space-Saving). What the evicted one had
    counted goes to ``(other)``: the sum over all repositories never shrinks.
    """

    def __init__(self, limit: int | None, counters: Sequence[Counter]) -> None:
        """`limit` None: all are named; 0: none, and the label is empty."""
        self._limit = limit
        self._counters = counters
        self._seen: dict[str, int] = {}
        self._counts: dict[tuple[Counter, str], dict[tuple[str, str], float]] = {}

    def count(self, counter: Counter, status: str, provider: str, repo: str) -> None:
        """One more of these."""
        repo = "" if self._limit == 0 else redact_encoded(repo)
        if self._limit:
            self._name(repo)
        self._add(counter, status, provider, repo, 1)

    def _name(self, repo: str) -> None:
        if repo not in self._seen and len(self._seen) == self._limit:
            rare = min(self._seen, key=self._seen.__getitem__)
            self._seen[repo] = self._seen.pop(rare)
            for counter in self._counters:
                for (status, provider), value in self._counts.pop((counter, rare), {}).items():
                    self._add(counter, status, provider, OTHER, value)
                    counter.remove(status, provider, rare)
        self._seen[repo] = self._seen.get(repo, 0) + 1

    def _add(self, counter: Counter, status: str, provider: str, repo: str, value: float) -> None:
        counter.labels(status, provider, repo).inc(value)
        if self._limit:
            counts = self._counts.setdefault((counter, repo), {})
            counts[status, provider] = counts.get((status, provider), 0) + value


@frozen
class WithoutRepos:
    """What a registry collects, with all repositories counted as one: the label `repo` is empty."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = list(_without_repos(metric.samples))
            yield metric


def _without_repos(samples: Sequence[Sample]) -> Iterator[Sample]:
    merged: dict[tuple[str, frozenset[tuple[str, str]]], Sample] = {}
    for sample in samples:
        if "repo" not in sample.labels:
            yield sample
            continue
        labels = {**sample.labels, "repo": ""}
        key = sample.name, frozenset(labels.items())
        before = merged.get(key)
        if before is None:
            value = sample.value
        elif sample.name.endswith("_created"):
            value = min(before.value, sample.value)
        else:
            value = before.value + sample.value
        merged[key] = Sample(sample.name, labels, value)
    yield from merged.values()
