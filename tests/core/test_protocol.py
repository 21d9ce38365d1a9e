"""What clients and sinks are told: the protocol's JSON and the capsule."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from ringbinder import Event, Secret, SinkEvent
from ringbinder.protocol import failed


@given(message=st.text(), data=st.dictionaries(st.sampled_from(["imageName", "url", "code"]), st.text()))
def test_json_is_one_line_that_shells_can_search(message: str, data: dict[str, str]) -> None:
    event = Event("ready", message, data)
    assert event.json.startswith(b'{"phase": "ready", "message": ')
    assert b"\n" not in event.json
    assert event.json.decode() == json.dumps({"phase": "ready", "message": message, **data})
    assert event.size == len(event.json)
    assert event.json is event.json


@given(st.text(alphabet="ab \n"))
def test_failed_ends_with_one_newline(message: str) -> None:
    event = failed(message, status_code=500)
    assert event.terminal
    assert event.message.endswith("\n")
    assert not event.message.endswith("\n\n")
    assert event.message.strip("\n") == message.strip("\n") or message.startswith("\n")
    assert event.data == {"status_code": 500}


def test_failed_shows_no_secret() -> None:
    secret = Secret("correct horse")
    assert b"correct horse" not in failed("it said: correct horse").json
    assert secret


@given(st.floats(0, 4e9))
def test_the_capsule_has_the_time_in_utc_with_microseconds(seconds: float) -> None:
    capsule = SinkEvent("example.org/x", 3, {"a": 1}, timestamp=seconds).capsule()
    moment = datetime.strptime(capsule.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs(moment.timestamp() - seconds) < 2e-6
    assert list(capsule.items())[:2] == [("schema", "example.org/x"), ("version", 3)]
    assert capsule["a"] == 1
