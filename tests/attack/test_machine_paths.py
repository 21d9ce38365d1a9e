"""Folders of the server's machine are told to who sits at it, and to nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ringbinder.model import Image, LaunchRequest, Server, User
from ringbinder.protocol import Log
from ringbinder.secret import Secret

if TYPE_CHECKING:
    from tests.server.conftest import Serve

LINK = "build/fake/owner/name/main"
FOLDER = "/home/somebody/.local/share/ringbinder/sessions/0/work"


class Launcher:
    """Launches below a folder, for everybody who bears a token."""

    async def launch(self, image: Image, request: LaunchRequest, log: Log) -> Server:
        return Server("s", "http://127.0.0.1:1/s/", Secret("t0ken-of-it"), extra={"work_folder": FOLDER, "more": 1})

    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | None:
        return User(headers["authorization"])


@pytest.mark.parametrize(
    ("sets", "headers", "public", "told"),
    [
        ({}, {}, False, True),
        ({}, {}, True, False),
        ({"BinderHub.auth_enabled": "true"}, {"Authorization": "Bearer ada"}, False, False),
        ({"Ringbinder.trusted_proxies": "[127.0.0.1]"}, {"X-Forwarded-For": "192.0.2.7"}, False, False),
        ({"Ringbinder.trusted_proxies": "[127.0.0.1]"}, {"X-Forwarded-For": "::1"}, False, True),
    ],
)
async def test_work_folder_is_for_own_machine(
    serve: Serve, sets: dict[str, str], headers: dict[str, str], public: bool, told: bool
) -> None:
    async with serve(sets, plugin=Launcher()) as live:
        live.binder.services.public = public
        ready = (await live.events(LINK, headers))[-1]
        assert (ready["phase"], ready["more"]) == ("ready", 1)
        assert ("work_folder" in ready) is told
        launch = await live.client.post(
            live.address + "api/v1/launches", json={"link": "fake/owner/name/main"}, headers=headers
        )
        async with live.stream(launch.json()["events_url"].lstrip("/"), headers) as stream:
            await stream.rest()
        state = await live.client.get(live.address.rstrip("/") + launch.json()["url"], headers=headers)
        assert state.json()["result"]["phase"] == "ready"
        assert (FOLDER in state.text) is told


@pytest.mark.parametrize("link", ["./x", "~/x", "..", ".", " ~/x", "\u3000./x"])
async def test_link_from_the_web_names_no_folder_of_here(serve: Serve, link: str) -> None:
    async with serve() as live:
        for response in (
            await live.client.get(f"{live.address}api/v1/link", params={"text": link}),
            await live.client.get(live.address, params={"link": link}, headers={"Accept": "text/html"}),
            await live.client.post(f"{live.address}api/v1/launches", json={"link": link}),
        ):
            assert response.status_code == 400
            assert "from the command line only" in response.text
            assert not any(part in response.text for part in (str(Path.home()), str(Path.cwd())))
