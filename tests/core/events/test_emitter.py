"""What becomes an event, and what does not; the rules for schemas; what an operator leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.config.event_settings import EventLogSettings
from ringbinder.errors import PluginError
from ringbinder.events.emit_rates import EmitRates, current_sink
from ringbinder.events.emitter import Events, PluginEvents, hash_key
from ringbinder.events.schema_registry import Catalogue
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.metrics import Metrics
from ringbinder.secret import Secret
from structlog.testing import capture_logs

SCHEMA: dict[str, Any] = {
    "$id": "example.org/thing",
    "version": 2,
    "question": "How many things are there?",
    "level": "warning",
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "count": {"type": "integer", "minimum": 0}},
}


class Site:
    def __init__(self, state: Path, **settings: Any) -> None:
        self.metrics = Metrics()
        self.told: list[SinkEvent] = []
        log, options = structlog.get_logger(), EventLogSettings(**settings)
        self.rates = EmitRates(log, self.metrics, options.plugin_rate)
        key = hash_key(options, state)
        self.events = Events(log, self.metrics, self.rates, options, key, self.told.append)
        self.plugin = PluginEvents("thing", self.events)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.plugin.register(SCHEMA)
    return site


def test_an_event_has_what_its_schema_shows(site: Site) -> None:
    site.plugin.emit("example.org/thing", name="a", count=1)
    (event,) = site.told
    assert (event.schema, event.version, event.level, event.fields) == (
        "example.org/thing", 2, "warning", {"name": "a", "count": 1}
    )  # fmt: skip
    assert site.value("ringbinder_events_total", schema="example.org/thing", outcome="emitted") == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "fields are missing: name"),
        ({"name": "a", "more": "hunter2"}, "the schema has no fields more"),
        ({"name": 7}, "field name breaks the rule 'type' of the schema"),
        ({"name": "a", "count": -1}, "field count breaks the rule 'minimum' of the schema"),
    ],
)
def test_event_that_does_not_fit_is_reported_once_and_dropped(site: Site, fields: dict[str, Any], problem: str) -> None:
    with capture_logs() as logs:
        site.plugin.emit("example.org/thing", **fields)
        site.plugin.emit("example.org/thing", **fields)
    assert site.told == []
    assert [(entry["plugin"], entry["problem"]) for entry in logs] == [("thing", problem)]
    assert site.value("ringbinder_events_total", schema="example.org/thing", outcome="invalid") == 2
    assert site.value("ringbinder_plugin_errors_total", plugin="thing", hook="emit") == 2


def test_names_that_no_one_knows_do_not_fill_the_metrics(site: Site) -> None:
    with capture_logs():
        for number in range(5):
            site.plugin.emit(f"example.org/{number}", name="a")
        site.plugin.emit("example.org/thing", version=9, name="a")
    assert site.value("ringbinder_events_total", schema="(unknown)", outcome="invalid") == 5
    assert site.told == []


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), st.lists))
def test_no_value_makes_emit_raise(value: object) -> None:
    site = Site(Path("/nonexistent"))
    site.plugin.register(SCHEMA)
    with capture_logs():
        site.plugin.emit("example.org/thing", name=value, count=value)


def test_before_anybody_listens_nothing_happens() -> None:
    log, metrics = structlog.get_logger(), Metrics()
    events = Events(log, metrics, EmitRates(log, metrics, 50.0))
    with capture_logs() as logs:
        events.emit("no/such", {})
    assert logs == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": ""}, "question is missing"),
        ({"$id": 3}, "$id is missing or not of type str"),
        ({"version": 0}, "version is missing"),
        ({"level": "loud"}, "level must be one of info, warning, error"),
        ({"additionalProperties": True}, "additionalProperties: false"),
        ({"type": "array"}, "type: object"),
        ({"properties": {"name": {"type": "word"}}}, "it is no JSON Schema"),
        ({"properties": {"timestamp": {"type": "string"}}}, "timestamp is a key of the capsule"),
        ({"properties": {"client_ip": {"type": "string"}}}, "client_ip looks private"),
        ({"properties": {"access_token": {"type": "string"}}}, "access_token looks private"),
    ],
)
def test_a_schema_keeps_the_rules(site: Site, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError, match=problem.replace("$", r"\$")) as caught:
        site.plugin.register({**SCHEMA, **change})
    assert caught.value.plugin == "thing"


def test_schema_may_be_private(site: Site) -> None:
    private = {"client_ip": {"type": "string", "private": True}, "has_token": {"type": "boolean"}}
    site.plugin.register({**SCHEMA, "$id": "example.org/private", "properties": private, "required": []})
    site.plugin.emit("example.org/private", client_ip="192.0.2.1", has_token=True)
    assert site.told[0].fields == {"client_ip": "192.0.2.1", "has_token": True}


def test_a_changed_schema_needs_a_new_version(site: Site) -> None:
    site.plugin.register(dict(SCHEMA))
    with pytest.raises(PluginError, match="a change needs a new version"):
        site.plugin.register({**SCHEMA, "question": "Another one?"})
    site.plugin.register({**SCHEMA, "question": "Another one?", "version": 3})
    site.plugin.emit("example.org/thing", name="a")
    site.plugin.emit("example.org/thing", version=2, name="a")
    assert [event.version for event in site.told] == [3, 2]


def test_fields_are_dropped_and_hashed_as_the_operator_wishes(tmp_path: Path) -> None:
    def told(**settings: Any) -> list[dict[str, Any]]:
        site = Site(tmp_path, **settings)
        site.plugin.register(SCHEMA)
        for name in ("a", "b", "a"):
            site.plugin.emit("example.org/thing", name=name, count=1)
        return [dict(event.fields) for event in site.told]

    assert told(drop_fields=("example.org/*:name",)) == [{"count": 1}] * 3
    assert told(drop_fields=("other/*:name", "cou*")) == [{"name": name} for name in "aba"]
    first = told(hash_fields=("name",))
    assert first[0]["name"] == first[2]["name"] != first[1]["name"]
    assert len(first[0]["name"]) == 32
    assert told(hash_fields=("name",)) == first  # the key is kept
    assert ((tmp_path / "event-hash-key").stat().st_mode & 0o777) == 0o600
    other = told(hash_fields=("name",), hash_key=Secret("of the operator"))
    assert other[0]["name"] != first[0]["name"]


def test_a_plugin_that_floods_is_held_to_its_rate_and_named(tmp_path: Path) -> None:
    site = Site(tmp_path, plugin_rate=10.0)
    site.plugin.register(SCHEMA)
    with capture_logs() as logs:
        for _ in range(1000):
            site.plugin.emit("example.org/thing", name="a")
    assert 50 <= len(site.told) < 100
    refused = site.value("ringbinder_events_refused_total", plugin="thing")
    assert refused == 1000 - len(site.told)
    assert [entry["event"] for entry in logs] == ["a plugin emits too many events; they are dropped"]
    assert "thing" in site.rates.flooding


def test_event_of_a_sink_does_not_come_back_to_it(site: Site) -> None:
    token = current_sink.set("thing")
    try:
        with capture_logs():
            site.plugin.emit("example.org/thing", name="a")
    finally:
        current_sink.reset(token)
    assert site.told == []


def test_cores_own_schemas_keep_the_rules() -> None:
    core, other = Catalogue(), Catalogue()
    names = [schema.name for schema in core]
    assert len(names) == 10
    assert "binderhub.jupyter.org/launch" in names
    for schema in core:
        assert str(schema.document["question"]).endswith("?")
        other.register({**schema.document, "$id": f"copy/{schema.name}"})
        assert all(rule.get("description") for rule in schema.fields.values())
