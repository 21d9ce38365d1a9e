"""The stream of `/build`: what is in it, in which order, and how it goes on after it was lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

LINK = "build/fake/owner/name/main"
CACHED = {"FakeRegistry.cached": "true"}


async def transcript(live: Live, path: str) -> str:
    """The whole body of a stream, with what is random in it made the same."""
    response = await live.client.get(live.address + path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    text = response.text.replace(live.address, "http://SERVER/")
    text = re.sub(r"id: [0-9a-f]{32}\.", "id: SESSION.", text)
    text = re.sub(r"fake-[0-9a-f]{16}\b", "fake-ID", text)
    text = re.sub(r'"token": "[0-9a-f]{32}"', '"token": "TOKEN"', text)
    text = re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", text)
    return re.sub(r"fake-owner-2dname-[0-9a-f]{6}|fake-2downer-2dname-[0-9a-f]{6}", "IMAGE", text)


READY = (
    '{"phase": "ready", "message": "server running at http://127.0.0.1:1/fake/fake-ID/\\n", '
    '"url": "http://127.0.0.1:1/fake/fake-ID/", "token": "TOKEN", "image": "IMAGE:COMMIT", '
    '"repo_url": "https://fake.invalid/owner/name", '
    '"binder_ref_url": "https://fake.invalid/owner/name/tree/COMMIT", '
    '"binder_launch_host": "http://SERVER/", "binder_request": "v2/fake/owner/name/main", '
    '"binder_persistent_request": "v2/fake/owner/name/COMMIT"}'
)


async def test_golden_cached_launch(serve: Serve) -> None:
    async with serve(CACHED) as live:
        assert await transcript(live, LINK) == (
            "id: SESSION.0\n"
            'data: {"phase": "built", "message": "Found built image, launching...\\n", '
            '"imageName": "IMAGE:COMMIT"}\n\n'
            "id: SESSION.1\n"
            'data: {"phase": "launching", "message": "Launching server...\\n"}\n\n'
            "id: SESSION.2\n"
            'data: {"phase": "launching", "message": "Fake server requested\\n"}\n\n'
            "id: SESSION.3\n"
            'data: {"phase": "launching", "message": "Fake server fake-ID: nothing runs there\\n"}\n\n'
            "id: SESSION.4.end\n"
            f"data: {READY}\n\n"
        )


async def test_golden_build(serve: Serve) -> None:
    sets = {"FakeBuilder.lines": "1", "FakeBuilder.line_bytes": "31", "FakeRegistry.push_layers": "0"}
    async with serve(sets) as live:
        text = await transcript(live, LINK)
        pushing = 'data: {"phase": "pushing", "message": "Pushing fake image\\n", "progress": {}}\n\n'
        text = re.sub(rf"(?:id: SESSION\.\d+\n{re.escape(pushing)})+", "PUSHING\n", text)
        assert text == (
            "id: SESSION.0\n"
            'data: {"phase": "waiting", "message": "Waiting for build to start...\\n"}\n\n'
            "id: SESSION.1\n"
            'data: {"phase": "building", "message": "Fake build of IMAGE:COMMIT: nothing is built\\n"}\n\n'
            "id: SESSION.2\n"
            'data: {"phase": "building", "message": "Fake build: line 1 of 1 ......\\n"}\n\n'
            "PUSHING\n"
            "id: SESSION.14\n"
            'data: {"phase": "pushing", '
            '"message": "Successfully pushed IMAGE:COMMIT: a fake, only its name is kept\\n"}\n\n'
            "id: SESSION.15\n"
            'data: {"phase": "built", "message": "Built image, launching...\\n", '
            '"imageName": "IMAGE:COMMIT"}\n\n'
            "id: SESSION.16\n"
            'data: {"phase": "launching", "message": "Launching server...\\n"}\n\n'
            "id: SESSION.17\n"
            'data: {"phase": "launching", "message": "Fake server requested\\n"}\n\n'
            "id: SESSION.18\n"
            'data: {"phase": "launching", "message": "Fake server fake-ID: nothing runs there\\n"}\n\n'
            "id: SESSION.19.end\n"
            f"data: {READY}\n\n"
        )


async def test_keepalives_break_silence_in_a_build_and_after_ready(serve: Serve) -> None:
    async with serve({"Ringbinder.keepalive": "0.05"}, gate=True, hold=60) as live:
        live.gate.shut()
        async with live.stream(LINK) as stream:
            await stream.until("building")
            assert await stream.lines(7) == ["", *[":keepalive", ""] * 3]
            live.gate.open.set()
            await stream.until("ready")
            assert await stream.lines(5) == ["", *[":keepalive", ""] * 2]


async def test_failed_build_ends_the_stream_and_keeps_its_log(serve: Serve) -> None:
    async with serve({"FakeBuilder.lines": "3", "FakeBuilder.fail_at": "build"}, hold=60) as live:
        events = await live.events(LINK)
        assert [event["phase"] for event in events] == ["waiting", *["building"] * 4, "failed"]
        assert events[-1]["code"] == "build-failed"
        assert events[-1]["message"].endswith("\n")
        path = events[-1]["log"]
        response = await live.client.get(live.address + path)
        while response.status_code == 404:  # it is written in the background
            await asyncio.sleep(0.02)
            response = await live.client.get(live.address + path)
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text == "".join(event["message"] for event in events[1:])


@pytest.mark.parametrize("fault", ["user", "transient", "bug"])
@pytest.mark.parametrize("stage", ["resolve", "check", "target", "build", "push", "launch"])
async def test_every_failure_is_one_event_in_a_stream_that_ends(serve: Serve, stage: str, fault: str) -> None:
    async with serve({"Fake.fail_at": stage, "Fake.fail_with": fault}, hold=60) as live:
        events = await live.events(LINK)
        assert [event["phase"] for event in events].count("failed") == 1
        last = events[-1]
        assert last["phase"] == "failed"
        assert last["message"].endswith("\n")
        if fault == "bug":
            assert "Fake failure" not in last["message"]
            assert last["error_id"] in last["message"]
            assert any(entry.get("error_id") == last["error_id"] for entry in live.logged)


FOREIGN = {"Origin": "https://evil.example"}
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        ("build/nope/x", {**FOREIGN, **HTML}, 403, "https://evil.example"),
        ("build/nope/x?build_only=true", HTML, 400, "Missing Accept header: text/event-stream"),
        ("build/nope/x?build_only=true", {}, 400, "enable_api_only_mode"),
        ("build/nope/x", {}, None, "No provider found for prefix nope\n"),
        ("build/fake/x", {}, None, 'Spec is not of the form "owner/name/ref", provided: "x".\n'),
        ("build/fake//", {}, None, "Spec is not of the form"),
    ],
)
async def test_precedence_of_errors(
    serve: Serve, path: str, headers: dict[str, str], status: int | None, message: str
) -> None:
    async with serve() as live:
        [event] = await live.events(path, headers)
        assert event["phase"] == "failed"
        assert event.get("status_code") == status
        assert message in event["message"]


@pytest.mark.parametrize(
    ("accept", "served"),
    [
        ("text/event-stream", True),
        ("text/event-stream;q=0.9", True),
        ("text/event-stream, */*", True),
        ("application/json, text/event-stream", True),
        ("*/*", True),
        ("text/*", True),
        ("application/json, text/xml, application/xml, */*", True),
        ("", True),
        ("text/html", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", False),
        ("text/event-stream;q=0", False),
    ],
)
async def test_accept(serve: Serve, accept: str, served: bool) -> None:
    async with serve(CACHED) as live:
        events = await live.events(LINK, {"Accept": accept})
        if served:
            assert events[-1]["phase"] == "ready"
        else:
            assert events == [
                {
                    "phase": "failed",
                    "message": "Missing Accept header: text/event-stream\n",
                    "code": "bad-request",
                    "status_code": 400,
                }
            ]


async def test_a_build_without_a_launch_is_for_the_api_only_mode(serve: Serve) -> None:
    async with serve({"BinderHub.enable_api_only_mode": "true"}, gate=True, hold=60) as live:
        events = await live.events(LINK + "?build_only=True")
        assert events[-1]["phase"] == "ready"
        assert set(events[-1]) == {"phase", "message", "imageName"}
        # The build, of which one who launches is a reader too, ends with `built`: that is for the launch alone.
        assert "built" not in {event["phase"] for event in events}
        assert live.gate.launches == 0
        assert (await live.client.get(live.address)).status_code == 404


async def test_who_asks_is_noted(serve: Serve) -> None:
    async with serve({**CACHED, "BinderHub.badge_base_url": "https://hub.example/b"}, gate=True) as live:
        await live.events(LINK, {"User-Agent": "tester", "Sec-Fetch-Site": "none", "X-Forwarded-For": "1.2.3.4"})
        [request] = live.gate.requests
        assert (request.client.ip, request.client.user_agent) == ("127.0.0.1", "tester")
        assert (request.client.origin, request.client.host) == ("none", "127.0.0.1")
        assert request.launch_host == "https://hub.example/b/"


async def test_returning_client_gets_the_rest_and_no_second_server(serve: Serve) -> None:
    async with serve(gate=True) as live:
        live.gate.shut()
        async with live.stream(LINK) as stream:
            first = await stream.until("building")
        live.gate.open.set()
        async with live.stream(LINK, {"Last-Event-ID": stream.ids[-1]}) as again:
            rest = await again.rest()
        ids = [*stream.ids, *again.ids]
        assert [id.split(".")[1] for id in ids] == [str(n) for n in range(len(ids))]
        assert len({id.split(".")[0] for id in ids}) == 1
        assert [event["phase"] for event in first + rest][-1] == "ready"
        assert (len(live.gate.builds), live.gate.launches) == (1, 1)
        assert live.gate.stopped == []

        # From any point, also after the end, the same events come again.
        async with live.stream(LINK, {"Last-Event-ID": ids[0]}) as replay:
            assert await replay.rest() == (first + rest)[1:]
        for last in (ids[-1], ids[-1].removesuffix(".end")):
            response = await live.client.get(live.address + LINK, headers={"Last-Event-ID": last})
            assert (response.status_code, response.content) == (204, b"")
        assert live.gate.launches == 1


async def test_ids_that_mean_nothing_here(serve: Serve) -> None:
    async with serve(CACHED, gate=True) as live:
        async with live.stream(LINK) as stream:
            await stream.rest()
        session = stream.ids[0].split(".")[0]
        gone = "0" * 32
        response = await live.client.get(live.address + LINK, headers={"Last-Event-ID": f"{gone}.7.end"})
        assert response.status_code == 204
        assert live.gate.launches == 1
        for number, last in enumerate((f"{gone}.7", "nonsense", f"{session}.x", f"{session}.-1", "."), 2):
            events = await live.events(LINK, {"Last-Event-ID": last})
            assert events[-1]["phase"] == "ready"
            assert live.gate.launches == number
        # An id of another link is no claim on this one.
        events = await live.events("build/fake/owner/name/other", {"Last-Event-ID": stream.ids[0]})
        assert events[-1]["binder_request"] == "v2/fake/owner/name/other"


async def test_a_refused_browser_does_not_come_back_for_ever(serve: Serve) -> None:
    async with serve() as live:
        async with live.stream(LINK, FOREIGN) as stream:
            await stream.rest()
        response = await live.client.get(live.address + LINK, headers={**FOREIGN, "Last-Event-ID": stream.ids[-1]})
        assert response.status_code == 204


async def test_dropped_client_is_noticed_and_cancelled_after_grace(
    serve: Serve,
) -> None:
    async with serve({**CACHED, "Ringbinder.session_grace": "0.2"}, gate=True) as live:
        live.gate.shut()
        async with live.stream(LINK) as stream:
            await stream.until("launching")
            await live.gate.began.wait()
            assert not live.gate.cancelled.is_set()
        await asyncio.wait_for(live.gate.cancelled.wait(), 30)
        async with live.stream(LINK, {"Last-Event-ID": stream.ids[-1]}) as again:
            [event] = await again.rest()
        message = "The client left before the launch was done.\n"
        assert event == {"phase": "failed", "message": message, "code": "cancelled"}


async def test_a_client_that_is_back_within_the_grace_keeps_its_launch(
    serve: Serve, turn_timers: Callable[[float], None]
) -> None:
    async with serve({**CACHED, "Ringbinder.session_grace": "60"}, gate=True) as live:
        live.gate.shut()
        async with live.stream(LINK) as stream:
            await stream.until("launching")
        async with live.stream(LINK, {"Last-Event-ID": stream.ids[-2]}) as again:
            await again.until("launching")
            turn_timers(90)
            live.gate.open.set()
            assert (await again.rest())[-1]["phase"] == "ready"
        assert not live.gate.cancelled.is_set()


async def test_ten_clients_one_link_one_build_ten_servers(serve: Serve) -> None:
    async with serve(gate=True) as live:
        live.gate.shut()
        clients = [asyncio.create_task(live.events(LINK)) for _ in range(10)]
        while len(live.gate.requests) < 10:
            await asyncio.sleep(0.01)
        live.gate.open.set()
        streams = await asyncio.gather(*clients)
        assert len(live.gate.builds) == 1
        assert live.gate.launches == 10
        assert len({events[-1]["url"] for events in streams}) == 10
        assert len({json.dumps(events[:-1]) for events in streams}) == 1


async def test_stream_stays_open_after_ready_for_reconnecting_clients(
    serve: Serve,
) -> None:
    async with serve(CACHED, hold=0.5) as live:
        started = asyncio.get_running_loop().time()
        async with live.stream(LINK) as stream:
            await stream.until("ready")
            assert await stream.rest() == []
        assert asyncio.get_running_loop().time() - started >= 0.5


async def test_only_get_launches(serve: Serve) -> None:
    async with serve(gate=True) as live:
        for method in ("HEAD", "POST", "PUT", "DELETE"):
            response = await live.client.request(method, live.address + LINK)
            assert response.status_code == 405
        assert (await live.client.options(live.address + LINK)).status_code == 200
        assert live.gate.requests == []
