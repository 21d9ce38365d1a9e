"""A launch through Ringbinder beside the same launch by hand, as a ratio of wall time within one run.

    python -m benchmarks.stages.launch [--version 6] [--hubs FOLDER] [--rounds 15] [--json FILE]

ours     launcher `jupyterhub`, from the request to `ready`, of an image that is there; the providers and registries
         named `fake` answer at once
by hand  three requests to the hub: make a user, start its server, follow its progress until the server is ready

Ringbinder also asks the server whether it takes its token before it says `ready`; by hand nobody does. Both start the
same servers at the same JupyterHub, which is installed and started for this (PyPI, npm), with BinderSpawnerMixin before
SimpleLocalProcessSpawner: a JupyterLab, and a stand-in of 30 lines that starts at once, beside which Ringbinder's own
share is larger. What was launched is removed before the next launch, and that is not timed.
Rounds alternate, and who is first changes each round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from attrs import frozen
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.model import LaunchRequest
from ringbinder_server.logging import set_up

from benchmarks.stages.turns import Figures, in_turns, parser, tell, until_ready
from tests.hub.real_hub import TOKEN, Hub, hub, install

SERVERS = {"JupyterLab": "jupyter-", "stand-in": "light-"}
"""What the hub starts for images whose names begin so."""


@frozen
class ByHand:
    """A client of the hub's API and nothing else; `url` ends with a slash."""

    http: aiohttp.ClientSession
    url: str

    async def launch(self, image: str) -> tuple[float, str]:
        """Seconds until the hub says that the server is ready, and its user."""
        user = f"by-hand-{secrets.token_hex(6)}"
        options = {"image": image, "token": secrets.token_urlsafe(24)}
        path = f"{self.url}hub/api/users/{user}"
        started = time.perf_counter()
        async with self.http.post(path) as answer:
            answer.raise_for_status()
        async with self.http.post(f"{path}/servers/", json=options) as answer:
            answer.raise_for_status()
        async with self.http.get(f"{path}/server/progress") as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    event = json.loads(line.removeprefix(b"data:"))
                    if event.get("ready"):
                        return time.perf_counter() - started, user
                    if event.get("failed"):
                        raise SystemExit(f"it failed: {event['message']}")
        raise SystemExit("the hub's progress ended before the server was ready")

    async def remove(self, user: str) -> None:
        """Returns when server and user are gone."""
        path = f"{self.url}hub/api/users/{user}"
        async with self.http.delete(f"{path}/servers/") as answer:
            answer.raise_for_status()
        while True:
            async with self.http.delete(path) as answer:
                if answer.status != 400:  # the server is still stopping
                    answer.raise_for_status()
                    return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def ringbinder(at: Hub, folder: Path, prefix: str) -> AsyncIterator[Ringbinder]:
    given = {
        "Ringbinder.builder": "fake", "Ringbinder.registry": "fake", "Ringbinder.launcher": "jupyterhub",
        "Ringbinder.extra_plugins": "[fake]", "FakeRegistry.cached": "true",
        "Ringbinder.state_folder": folder / "state", "Ringbinder.cache_folder": folder / "cache",
        "BinderHub.hub_url": at.url, "BinderHub.hub_api_token": TOKEN, "BinderHub.image_prefix": prefix,
    }  # fmt: skip
    config = load(environ={}, sets=[f"{name}={value}" for name, value in given.items()])
    async with running(config, set_up("error")) as app:
        yield app


async def measure(at: Hub, folder: Path, prefix: str, rounds: int) -> Figures:
    headers = {"Authorization": f"token {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        ringbinder(at, folder, prefix) as app,
    ):
        hands = ByHand(http, at.url)

        async def ours() -> float:
            seconds, ready = await until_ready(app, LaunchRequest("fake", f"a/{secrets.token_hex(4)}/main"))
            (server,) = [each for each in await app.servers.running() if each.url == ready.data["url"]]
            await app.servers.stop(server)
            return seconds

        async def by_hand() -> float:
            seconds, user = await hands.launch(f"{prefix}by-hand:1")
            await hands.remove(user)
            return seconds

        return await in_turns(rounds, ours, by_hand)


def main() -> None:
    options = parser(__doc__, rounds=15)
    options.add_argument("--version", default="6", help="of JupyterHub")
    options.add_argument("--hubs", type=Path, help="folder for what is installed, kept for the next time")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="ringbinder-bench-") as name:
        folder = Path(name)
        hubs = given.hubs or folder / "hubs"
        hubs.mkdir(parents=True, exist_ok=True)
        with hub(install(given.version, hubs), folder / "hub") as at:
            figures = {
                what: asyncio.run(measure(at, folder / what, prefix, given.rounds)) for what, prefix in SERVERS.items()
            }
        tell(figures, 1.1, given.json)


if __name__ == "__main__":
    main()
