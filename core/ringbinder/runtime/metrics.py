"""Metrics under BinderHub's documented names, in a registry of this application's own."""

from __future__ import annotations

import re
import time
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import structlog
from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.samples import Sample

from ..errors import PluginError
from ..secret import redact_encoded

OTHER: Final = "(other)"
_PLUGIN: Final = "plugin"
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

C = TypeVar("C", Counter, Gauge, Histogram)


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


@define(eq=False)
class PluginMetrics:
    """Metrics of a plugin's own at ``/metrics``, and how a policy counts a launch that it refuses; `Context.metrics`.

    Each series gets the label `plugin` (``provider:gh``), so that instances of one plugin, and plugins that use the
    same name, stay apart. With `shared` there is no such label, and one metric for all that ask for this name: for
    what they have in common, such as a quota. Names follow Prometheus (``shelf_requests``, with the unit at the end:
    ``shelf_answer_seconds``; a counter's name is shown with ``_total``). The same name again gives the same metric.
    Labels are no place for what strangers can choose: each value is a series for as long as the server runs.

    What these methods return is of `prometheus_client`. They raise PluginError for a name that Prometheus does not
    take, that is one of Ringbinder's, or that a plugin uses for another kind of metric.
    """

    _plugin: str
    _core: Metrics

    @property
    def registry(self) -> CollectorRegistry:
        """The registry of this plugin alone, for collectors of `prometheus_client` that have no method here.

        In tests: ``context.metrics.registry.get_sample_value("shelf_requests_total", {"status": "found"})``.
        """
        return self._core.plugin_registry(self._plugin)

    def counter(self, name: str, description: str, labels: Sequence[str] = (), *, shared: bool = False) -> Counter:
        """A number that only grows: ``counter.labels("found").inc()``, without labels ``counter.inc()``."""
        return self._made(Counter, name, description, labels, shared)

    def gauge(self, name: str, description: str, labels: Sequence[str] = (), *, shared: bool = False) -> Gauge:
        """A number that goes up and down: ``gauge.set(4)``."""
        return self._made(Gauge, name, description, labels, shared)

    def histogram(
        self,
        name: str,
        description: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS,
        shared: bool = False,
    ) -> Histogram:
        """How often each size or time was seen: ``histogram.observe(0.3)``. `buckets` are their upper bounds."""
        return self._made(Histogram, name, description, labels, shared, buckets=buckets)

    def count_launch(self, status: str, provider: str, repo: str) -> None:
        """Counts a refused launch in ``binderhub_launch_count_total``: `status` is why, such as ``pod_quota``.

        `provider` is that of the request, `repo` the repository's address (`Repo.url`), whose label is bounded.
        """
        self._core.count_launch(status, provider, repo)

    def _made(self, kind: type[C], name: str, description: str, labels: Sequence[str], shared: bool, **more: Any) -> C:
        owner = "" if shared else self._plugin
        try:
            return self._core.plugin_metric(owner, kind, name, description, tuple(labels), **more)
        except ValueError as error:
            raise PluginError(self._plugin, f"the metric {name!r} cannot be made: {error}") from error


@define(eq=False)
class _PluginSeries:
    """What the registries of all plugins collect, the series of each under its name."""

    registries: dict[str, CollectorRegistry] = field(factory=dict)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for plugin, registry in list(self.registries.items()):
            try:
                collected = list(registry.collect())
            except Exception:
                structlog.get_logger().warning("metrics of a plugin are missing", plugin=plugin, exc_info=True)
                continue
            for metric in collected:
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit)
                )
                own = {_PLUGIN: plugin} if plugin else {}
                family.samples += [sample._replace(labels={**sample.labels, **own}) for sample in metric.samples]
        yield from families.values()


class Metrics:
    """`registry` is what `/metrics` shows; plugins add to it through their `PluginMetrics`.

    Names, labels and buckets are the replaced system's, so that dashboards keep working.
    """

    def __init__(self, repos: int | None = None) -> None:
        """`repos` is how many repositories are named: the first ones; None: all."""
        self.registry: CollectorRegistry = CollectorRegistry()
        self._of_plugins = _PluginSeries()
        self._made: dict[tuple[str, str], tuple[type, tuple[str, ...], Any]] = {}
        self.build_time: Histogram = Histogram(
            "binderhub_build_time_seconds",
            "Histogram of build times",
            ["status"],
            registry=self.registry,
            buckets=(60, 120, 300, 600, 1800, 3600, 7200, float("inf")),
        )
        self.launch_time: Histogram = Histogram(
            "binderhub_launch_time_seconds",
            "Histogram of launch times",
            ["status", "retries"],
            registry=self.registry,
            buckets=(2, 5, 10, 20, 30, 60, 120, 300, 600, float("inf")),
        )
        self.build_count: Counter = Counter(
            "binderhub_build_count", "Builds by outcome", ["status", "provider", "repo"], registry=self.registry
        )
        self.launch_count: Counter = Counter(
            "binderhub_launch_count", "Launches by outcome", ["status", "provider", "repo"], registry=self.registry
        )
        self._repos = NamedRepos(repos)
        self.inprogress_builds: Gauge = Gauge("binderhub_inprogress_builds", "Builds under way", registry=self.registry)
        self.inprogress_launches: Gauge = Gauge(
            "binderhub_inprogress_launches", "Launches under way", registry=self.registry
        )
        self.stage_seconds: Histogram = Histogram(
            "ringbinder_stage_seconds",
            "Time that the plugins of a stage take",
            ["stage", "status"],
            registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, float("inf")),
        )
        self.builds_waiting: Gauge = Gauge(
            "ringbinder_builds_waiting", "Builds that wait for a slot", registry=self.registry
        )
        self.open_streams: Gauge = Gauge(
            "ringbinder_open_streams", "Event streams that clients hold open", registry=self.registry
        )
        self.events: Counter = Counter(
            "ringbinder_events",
            "Events by schema and whether they could be emitted",
            ["schema", "outcome"],
            registry=self.registry,
        )
        self.events_refused: Counter = Counter(
            "ringbinder_events_refused",
            "Events that a plugin emitted too quickly, or from within a sink",
            ["plugin"],
            registry=self.registry,
        )
        self.sink_events: Counter = Counter(
            "ringbinder_sink_events",
            "Events by sink and what became of them",
            ["sink", "outcome"],
            registry=self.registry,
        )
        self.sink_waiting: Gauge = Gauge(
            "ringbinder_sink_waiting", "Events that a sink has not yet taken", ["sink"], registry=self.registry
        )
        self.sink_oldest_seconds: Gauge = Gauge(
            "ringbinder_sink_oldest_seconds",
            "Age of the oldest event that a sink has not yet taken",
            ["sink"],
            registry=self.registry,
        )
        self.sink_spool_bytes: Gauge = Gauge(
            "ringbinder_sink_spool_bytes", "Size of a sink's spool on disk", ["sink"], registry=self.registry
        )
        self.sink_healthy: Gauge = Gauge(
            "ringbinder_sink_healthy", "1 if a sink takes its events, else 0", ["sink"], registry=self.registry
        )
        self.plugin_errors: Counter = Counter(
            "ringbinder_plugin_errors",
            "Contract breaches and failures by plugin",
            ["plugin", "hook"],
            registry=self.registry,
        )
        self.background_failures: Counter = Counter(
            "ringbinder_background_failures",
            "Failures of what is repeated at intervals, by its name in the log",
            ["task"],
            registry=self.registry,
        )
        self.loop_blocked: Counter = Counter(
            "ringbinder_loop_blocked",
            "Times that a hook, or something outside of any, has blocked the event loop for a second",
            ["plugin", "hook"],
            registry=self.registry,
        )

        self._own = {metric.name for metric in self.registry.collect()}
        self.registry.register(self._of_plugins)

    def plugin_registry(self, plugin: str) -> CollectorRegistry:
        """The registry of one plugin, ``kind:name``; with an empty name, of what plugins share."""
        return self._of_plugins.registries.setdefault(plugin, CollectorRegistry())

    def plugin_metric(
        self, plugin: str, kind: type[C], name: str, description: str, labels: tuple[str, ...], **more: Any
    ) -> C:
        """The metric that `plugin` has under `name`, made if need be. Raises ValueError where that cannot be."""
        if not _NAME.fullmatch(name):
            raise ValueError("a name is made of letters, digits and underscores")
        if name.removesuffix("_total") in self._own or _PLUGIN in labels:
            raise ValueError("this name, or the label 'plugin', is Ringbinder's own")
        for (_, other), (its_kind, _, _) in self._made.items():
            if other == name and its_kind is not kind:
                raise ValueError(f"a {its_kind.__name__.lower()} has this name")
        if (plugin, name) not in self._made:
            metric = kind(name, description, labels, registry=self.plugin_registry(plugin), **more)
            self._made[plugin, name] = kind, labels, metric
        _, its_labels, known = self._made[plugin, name]
        if its_labels != labels:
            raise ValueError(f"it has the labels {', '.join(its_labels) or 'none'}")
        return known  # type: ignore[no-any-return]  # of `kind`, as was looked at above

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Around one call of the plugins of a stage."""
        started, status = time.monotonic(), "failure"
        try:
            yield
            status = "success"
        except CancelledError:
            status = "cancelled"
            raise
        finally:
            self.stage_seconds.labels(stage, status).observe(time.monotonic() - started)

    @contextmanager
    def building(self, provider: str, repo: str) -> Iterator[None]:
        """Around one build: times it and counts its outcome."""
        started, status = time.monotonic(), "failure"
        self.inprogress_builds.inc()
        try:
            yield
            status = "success"
        finally:
            self.inprogress_builds.dec()
            self.build_time.labels(status).observe(time.monotonic() - started)
            self.build_count.labels(status, provider, self._repos.label(repo)).inc()

    @contextmanager
    def launching(self, provider: str, repo: str) -> Iterator[None]:
        """Around one launch: times it and counts its outcome.

        There is one attempt, hence `retries` is 0, or -1 for a failure.
        """
        started, status = time.monotonic(), "failure"
        self.inprogress_launches.inc()
        try:
            yield
            status = "success"
        finally:
            self.inprogress_launches.dec()
            retries = "0" if status == "success" else "-1"
            self.launch_time.labels(status, retries).observe(time.monotonic() - started)
            self.count_launch(status, provider, repo)

    def count_launch(self, status: str, provider: str, repo: str) -> None:
        """Counts a launch whose time is no matter, such as one beyond a quota (``pod_quota``, ``repo_quota``)."""
        self.launch_count.labels(status, provider, self._repos.label(repo)).inc()
