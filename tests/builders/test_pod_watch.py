"""The cache of pods is right whatever the order in which events come, and however often."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.runtime.clock import SystemClock
from ringbinder_cluster.client import ApiError, Cluster, Json, Patience, Unreachable
from ringbinder_cluster.watching import PodWatch


def watch() -> PodWatch:
    return PodWatch(Cluster(None, "test", "binder", Patience()), "binder", "", SystemClock(), structlog.get_logger())


def event(kind: str, name: str, uid: str, version: int) -> bytes:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version)}
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode()


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[bytes], dict[str, str]]:
    """Events as they happened, and in the end the version of each pod that is there."""
    events: list[bytes] = []
    alive: dict[str, str] = {}
    last: dict[str, str] = {}
    for version in range(1, draw(st.integers(1, 25))):
        name = draw(st.sampled_from(["a", "b", "c"]))
        if name not in alive:
            alive[name], kind = f"{name}-{version}", "ADDED"
        else:
            kind = draw(st.sampled_from(["MODIFIED", "DELETED"]))
        events.append(event(kind, name, alive[name], version))
        last[name] = str(version)
        if kind == "DELETED":
            del alive[name], last[name]
    return events, last


@given(histories(), st.data())
def test_in_any_order_and_twice(history: tuple[list[bytes], dict[str, str]], data: st.DataObject) -> None:
    events, last = history
    cache = watch()
    seen: dict[str, Json] = {}

    def count(before: Json | None, after: Json | None) -> None:
        if before is not None:
            assert seen.pop(before["metadata"]["uid"]) is before
        if after is not None:
            seen[after["metadata"]["uid"]] = after

    cache.observer = count
    for line in data.draw(
        st.permutations(events + data.draw(st.lists(st.sampled_from(events or [b""]))) if events else [])
    ):
        cache._take(line)
    assert {name: pod["metadata"]["resourceVersion"] for name, pod in cache.pods.items()} == last
    assert sorted(seen) == sorted(pod["metadata"]["uid"] for pod in cache.pods.values())


def test_what_is_gone_is_still_known_by_its_uid() -> None:
    cache = watch()
    cache._take(event("ADDED", "a", "1", 1))
    cache._take(event("DELETED", "a", "1", 2))
    cache._take(event("ADDED", "a", "2", 3))
    gone, there = cache.look("a", "1"), cache.look("a", "2")
    assert gone is not None
    assert gone.gone
    assert gone.pod["metadata"]["resourceVersion"] == "2"
    assert there is not None
    assert not there.gone
    assert cache.look("a", "3") is None


def test_a_pod_whose_news_was_overtaken_by_its_follower_is_gone() -> None:
    cache = watch()
    cache._take(event("ADDED", "a", "2", 3))
    cache._take(event("MODIFIED", "a", "1", 2))
    earlier = cache.look("a", "1")
    assert earlier is not None
    assert earlier.gone
    assert cache.pods["a"]["metadata"]["uid"] == "2"


def test_list_removes_what_it_lacks_but_nothing_newer() -> None:
    cache = watch()
    for name, version in (("old", 1), ("kept", 2), ("new", 9)):
        cache.note(json.loads(event("", name, name, version))["object"])
    cache._replace({"kept": cache.pods["kept"]}, "5")
    assert set(cache.pods) == {"kept", "new"}
    gone = cache.look("old", "old")
    assert gone is not None
    assert gone.gone


def test_news_wake_listeners_of_that_pod_and_of_all() -> None:
    cache = watch()
    with cache.listening("a") as one, cache.listening("b") as other, cache.listening() as every:
        cache._take(event("ADDED", "a", "1", 1))
        assert one.is_set()
        assert every.is_set()
        assert not other.is_set()
    assert cache._listeners == {}


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type": "ADDED"}', b'"x"'])
def test_half_an_event_is_a_broken_connection(line: bytes) -> None:
    with pytest.raises(Unreachable):
        watch()._take(line)


def test_an_error_event_is_an_answer_of_the_api_server() -> None:
    fields: dict[str, Any] = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    with pytest.raises(ApiError, match="too old") as caught:
        watch()._take(json.dumps({"type": "ERROR", "object": fields}).encode())
    assert caught.value.status == 410
