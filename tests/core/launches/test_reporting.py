"""The launch event, as BinderHub documents it."""

from __future__ import annotations

import json

import attrs
import pytest
import structlog
from ringbinder.events.emit_rates import EmitRates
from ringbinder.events.emitter import Events
from ringbinder.launches.reporting import StageEvents
from ringbinder.model import Client, GitSource, LaunchRequest, ProviderInfo, Repo
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.metrics import Metrics
from ringbinder.secret import Secret

PROVIDER = ProviderInfo("GitHub", ".*", "Repository", "user/repo")
REPO = Repo(
    url="https://github.com/a/b",
    source=GitSource("https://github.com/a/b", "1a2b"),
    ref="1a2b",
    resolved_spec="a/b/1a2b",
    ref_url="https://github.com/a/b/tree/1a2b",
    slug="a-b",
)
CLIENT = Client(ip="203.0.113.9", user_agent="curl", origin="https://example.org", host="127.0.0.1:9002")


def launched(spec: str, version: int = 6, *, build_token: bool = False) -> SinkEvent:
    log, metrics, reported = structlog.get_logger(), Metrics(), list[SinkEvent]()
    emitter = Events(log, metrics, EmitRates(log, metrics, 50.0), deliver=reported.append)
    stages = StageEvents(emitter, lambda prefix: PROVIDER, version)
    stages.launched(LaunchRequest("gh", spec, client=CLIENT, build_token=build_token), REPO)
    (event,) = reported
    return event


def test_version_6_in_its_capsule() -> None:
    event = attrs.evolve(launched("a/b"), timestamp=1_700_000_000.25)
    assert json.dumps(event.capsule()) == (
        '{"timestamp": "2023-11-14T22:13:20.250000Z", "schema": "binderhub.jupyter.org/launch", '
        '"version": 6, "provider": "GitHub", "spec": "a/b", "ref": "1a2b", "status": "success", '
        '"build_token": false, "origin": "127.0.0.1:9002", "request_origin": "https://example.org"}'
    )


def test_build_token_is_shown() -> None:
    assert launched("a/b", build_token=True).fields["build_token"] is True


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (1, "provider spec status"),
        (2, "provider spec status"),
        (3, "provider spec status origin"),
        (4, "provider spec ref status origin"),
        (5, "provider spec ref status build_token origin"),
        (6, "provider spec ref status build_token origin request_origin"),
    ],
)
def test_older_versions_have_the_fields_that_they_had(version: int, fields: str) -> None:
    event = launched("a/b", version)
    assert event.version == version
    assert list(event.fields) == fields.split()


@pytest.mark.parametrize(
    "spec",
    [
        "a/b/main",
        "https%3A%2F%2Fexample.org%2Fa%2Fb/main",
        "https%3a%2f%2fexample.org%2Fa/a%20b",
        "",
        "///",
        "%",
    ],
)
def test_spec_stands_as_in_the_link(spec: str) -> None:
    assert launched(spec).fields["spec"] == spec


@pytest.mark.parametrize(
    ("spec", "public"),
    [
        ("https%3A%2F%2Fme%3Ahunter22%40example.org%2Fa/main", "https%3A%2F%2Fexample.org%2Fa/main"),
        ("https://me:hunter22@example.org/a/main", "https://example.org/a/main"),
    ],
)
def test_credentials_in_a_spec_are_not_shown(spec: str, public: str) -> None:
    assert launched(spec).fields["spec"] == public


def test_known_secret_is_not_shown() -> None:
    secret = Secret("s3cret/value")
    assert "s3cret" not in str(launched("a/s3cret%2Fvalue/main").fields)
    assert "s3cret" not in str(launched("a/s3cret/value/main").fields)
    assert secret
