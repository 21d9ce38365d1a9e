"""Where people log in, an answer that is no user lets nobody in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realparts.serving import Serve
from ringbinder import Refused, User
from ringbinder.errors import ConfigError, TransientError

WITH_LOGIN = {"BinderHub.auth_enabled": "true", "Ringbinder.hook_timeouts": "{authenticate: 0.05}"}
PATHS = ["", "v2/fake/a/b/main", "build/fake/a/b/main", "api/v1/images/fake/a/b/main", "api/v1/launches/x"]


async def wrong() -> Any:
    return "somebody"


async def truth() -> Any:
    return True


async def nobody() -> Any:
    return None


async def bug() -> Any:
    raise KeyError("sub")


async def outage() -> Any:
    raise TransientError("The identity provider does not answer")


async def refusal() -> Any:
    raise Refused("Not you.")


async def silence() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("answer", [wrong, truth, nobody, bug, outage, refusal, silence])
async def test_authenticate_that_gives_no_user_lets_no_one_in(
    serve: Serve, answer: Callable[[], Awaitable[Any]]
) -> None:
    class Login:
        async def authenticate(self) -> Any:
            return await answer()

    async with serve(WITH_LOGIN, plugin=Login(), gate=True) as live:
        for path in PATHS:
            response = await live.client.get(live.address + path, headers={"Accept": "*/*"})
            if path.startswith("build"):
                assert '"phase": "failed"' in response.text.replace('":"', '": "')
            else:
                assert response.status_code >= 400, path
        assert live.gate.requests == []
        assert not live.binder.sessions.known


async def test_login_is_for_those_who_are_known(serve: Serve) -> None:
    class Login:
        async def authenticate(self) -> Any:
            return User("emma")

    async with serve(WITH_LOGIN, plugin=Login(), gate=True) as live:
        assert (await live.client.get(live.address)).status_code == 200


async def test_login_without_a_plugin_for_it_does_not_start(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="no active plugin can say who somebody is"):
        async with serve(WITH_LOGIN):
            pytest.fail("it runs")
