"""How events become server-sent events: their ids are those that a client comes back with."""

from __future__ import annotations

from ringbinder.launches.event_buffer import EventLog
from ringbinder.launches.sessions import LARGE_BATCH, Session
from ringbinder.model import LaunchRequest
from ringbinder.protocol import Event
from ringbinder_server.routes.build import _READER, _frames

READY = Event("ready", "go", {"url": "u"})


async def test_ids_in_frames_are_those_that_a_client_comes_back_with() -> None:
    first, second = (Session(LaunchRequest("t", "s"), name * 16, "name") for name in ("ab", "cd"))
    log = EventLog()
    for session in (first, second):
        session.notify(Event("waiting", "a"))
        session._next(log, own=False)
    for number in range(2 * LARGE_BATCH):
        log.append(Event("building", f"{number}"))
    for session in (first, second):
        session.notify(READY)
        frames = [
            span.rendered(_frames).replace(_READER, session.id.encode()) async for span in session.spans() if span
        ]
        assert len(frames) == 4, "own, two batches of the build, own"
        reported = b"".join(frames).split(b"\n\n")[:-1]
        ids = [frame.split(b"\n")[0].removeprefix(b"id: ").decode() for frame in reported]
        assert ids == [f"{session.id}.{n}" for n in range(2 * LARGE_BATCH + 1)] + [
            f"{session.id}.{2 * LARGE_BATCH + 1}.end"
        ]
        assert session.number_of(ids[-1]) == 2 * LARGE_BATCH + 1
        assert [frame.split(b"data: ")[1] for frame in reported] == [
            event.json async for batch in session.read() for _, event in batch
        ]
    assert log.rendered(0, LARGE_BATCH, 1, _frames) is log.rendered(0, LARGE_BATCH, 1, _frames), "made once for all"
