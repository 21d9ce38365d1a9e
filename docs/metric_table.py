"""The tables of the metrics, core's and those of plugins: found in the code; what a label says stands here."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import frozen
from sources import sources

_KINDS: Final = ("Counter", "Gauge", "Histogram", "Summary")
_UNITS: Final = ("seconds", "bytes")

LABELS: Final = {
    "hook": "Name of the hook; empty where the plugin could not be made, configured or started, and outside of any.",
    "how": "How bytes of an image came into its repository: `pushed`, `mounted` from another, or `reused`.",
    "outcome": "What became of events: see [Delivery](events.md#delivery); of `ringbinder_events_total`: "
    "`emitted`, or `invalid` where an event does not fit its schema.",
    "plugin": "Kind and name of the plugin: `provider:gh`; empty where none is under way.",
    "provider": "Display name of the provider: `GitHub`.",
    "repo": "Public address of the repository, bounded as said above.",
    "retries": "Of a launch: 0, or -1 of one that failed.",
    "schema": "Name of the event's schema; `(unknown)` for one that no one has registered.",
    "sink": "Name of the sink: `jsonlines`.",
    "stage": "`resolve`, `check`, `build`, `push` or `launch`.",
    "status": "`success` or `failure`; of a stage also `cancelled`; of `binderhub_launch_count_total` also `pod_quota` "
    "and `repo_quota`.",
    "task": "What is repeated, as in `the cleaner of images`.",
}


@frozen
class Metric:
    """One collector of `prometheus_client`'s, as its call in the code has it."""

    kind: str
    name: str
    meaning: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """What it counts in; empty for a plain number."""
        return next((unit for unit in _UNITS if self.name.endswith(f"_{unit}")), "")


def metric_table() -> str:
    """Every metric: name, kind, unit, labels, buckets and meaning. Raises LookupError for one without a meaning."""
    rows = ["| name | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    for metric in metrics(sources()):
        if not metric.meaning:
            raise LookupError(f"the metric {metric.name} has no meaning: give its second argument")
        name = f"{metric.name}_total" if metric.kind == "Counter" else metric.name
        buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}." if metric.buckets else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{name}` | {metric.kind.lower()} | {metric.unit} | {labels} | {metric.meaning}.{buckets} |")
    return "\n".join(rows) + "\n"


def label_table() -> str:
    """Every label. Raises LookupError for one without a meaning here, or that no metric has."""
    used = {label for metric in metrics(sources()) for label in metric.labels}
    if different := sorted(used ^ LABELS.keys()):
        raise LookupError(f"docs/metric_table.py: {different} are labels or in LABELS, and not both")
    return (
        "\n".join(["| label | what it says |", "|---|---|", *(f"| `{name}` | {LABELS[name]} |" for name in LABELS)])
        + "\n"
    )


def metrics(files: Iterable[Path]) -> Iterator[Metric]:
    """The metrics that `files` make, in order."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    ast.Name(kind) | ast.Attribute(attr=kind) as made, [ast.Constant(str(name)), *more], keywords
                ) if kind.capitalize() in _KINDS:
                    values = [_value(argument) for argument in more]
                    named = {keyword.arg: _value(keyword.value) for keyword in keywords}
                    meaning = str(named.get("documentation") or (values[0] if values else ""))
                    labels = named.get("labelnames") or (values[1] if len(values) > 1 else ())
                    if isinstance(made, ast.Attribute) and "shared" not in named:  # see PluginMetrics
                        labels = (*labels, "plugin")
                    yield Metric(kind.capitalize(), name, meaning, tuple(labels), named.get("buckets") or ())


def _value(expression: ast.expr) -> object:
    """Of a literal, in which `float("inf")` may stand; None for anything else."""
    match expression:
        case ast.Tuple(parts) | ast.List(parts):
            return tuple(_value(part) for part in parts)
        case ast.Call(ast.Name("float"), [ast.Constant(text)]):
            return float(text)
        case ast.Constant(value):
            return value
    return None
