"""A bound for the label `repo`: the first repositories are named, the others counted together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

from ..secret import redact_encoded

OTHER: Final = "(other)"


@define
class NamedRepos:
    """Values of the label `repo`: the first `limit` repositories have their names, all later ones ``(other)``.

    Once named, always named: where a series ended, or took over the count of another, ``increase()`` would show
    launches that never were.
    """

    limit: int | None
    """None: all are named; 0: none, and the label is empty."""
    _named: set[str] = field(factory=set, init=False)

    def label(self, repo: str) -> str:
        """The label for `repo`, without credentials."""
        if self.limit is None:
            return redact_encoded(repo)
        if self.limit == 0:
            return ""
        repo = redact_encoded(repo)
        if len(self._named) < self.limit:
            self._named.add(repo)
        return repo if repo in self._named else OTHER


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
