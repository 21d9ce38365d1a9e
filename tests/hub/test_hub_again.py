"""What is asked of a hub again, and what is not: passing errors, and a hub that says when to come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
import pytest
from ringbinder.errors import Refused, TransientError
from ringbinder.runtime.clock import SystemClock
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog
from ringbinder_launchers._api import HubApi
from ringbinder_launchers._places import Place
from ringbinder_launchers._spawn import Spawn

READY = b'data: {"progress": 100, "ready": true, "url": "/user/ada/"}\n\n'
BUSY = {"message": "Too many users trying to log in right now. Try again in a few seconds."}


class Clock(SystemClock):
    """Nobody waits for long; what was waited for is noted."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


Make = Callable[[Sequence[httpx.Response | Exception]], tuple[HubApi, Clock, list[str]]]


@pytest.fixture
def make() -> Make:
    """A client of a hub that answers so, in order; and what it was asked."""

    def make(answers: Sequence[httpx.Response | Exception]) -> tuple[HubApi, Clock, list[str]]:
        asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(f"{request.method} {request.url.path}")
            given = answers[len(asked) - 1]
            if isinstance(given, Exception):
                raise given
            return given

        http, clock = httpx.AsyncClient(transport=httpx.MockTransport(answer)), Clock()
        return HubApi(http, clock, "http://hub/hub/api/", Secret("token-4718"), 4, 4.0), clock, asked

    return make


@pytest.mark.parametrize(
    "passing",
    [
        httpx.Response(502),
        httpx.Response(503, text="<html>no hub</html>"),
        httpx.Response(504, json={"message": "x"}),
        httpx.Response(404, text="<html>a proxy without its routes</html>"),
        httpx.ConnectError("refused"),
    ],
    ids=str,
)
async def test_a_passing_error_is_asked_again_ever_later(make: Make, passing: httpx.Response | Exception) -> None:
    api, clock, asked = make([passing, passing, httpx.Response(201, json={"name": "ada"})])
    reply = await api.ask("POST", "users/ada")
    assert (reply.status, reply.repeated, asked) == (201, True, ["POST /hub/api/users/ada"] * 3)
    first, second = clock.slept
    assert 3.0 <= first <= 5.0 < 6.0 <= second <= 10.0
    api, clock, asked = make([passing] * 9)
    with pytest.raises(TransientError, match="does not answer"):
        await api.ask("GET", "users")
    assert (len(asked), len(clock.slept)) == (4, 3)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 429, 500])
async def test_the_hubs_own_answer_is_not_asked_for_again(make: Make, status: int) -> None:
    api, clock, asked = make([httpx.Response(status, json={"message": "no"})])
    assert (await api.ask("POST", "users/ada")).status == status
    assert (len(asked), clock.slept) == (1, [])


async def test_a_busy_hub_shows_when_to_come_back(make: Make) -> None:
    busy = httpx.Response(429, json=BUSY, headers={"Retry-After": "7"})
    stream = httpx.Response(200, content=READY)
    api, clock, asked = make([busy, busy, httpx.Response(202), stream])
    log = RecordingLog()
    spawn = Spawn(api, Place("ada", temporary=False), {}, log)
    assert await spawn.start() == "/user/ada/"
    assert clock.slept == [7.0, 7.0]
    assert "Trying again in 7 seconds" in log.text
    assert asked[:3] == ["POST /hub/api/users/ada/servers/"] * 3


async def test_a_hub_that_is_full_is_reported_at_once(make: Make) -> None:
    api, clock, asked = make([httpx.Response(429, json={"message": "Active server limit exceeded."})])
    spawn = Spawn(api, Place("ada", temporary=False), {}, RecordingLog())
    with pytest.raises(Refused, match="Active server limit exceeded") as caught:
        await spawn.start()
    assert (caught.value.status, spawn.begun, len(asked), clock.slept) == (429, False, 1, [])
