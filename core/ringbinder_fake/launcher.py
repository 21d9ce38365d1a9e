"""Servers that are addresses."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import ClassVar

from attrs import frozen
from ringbinder import Context, Duration, Image, ImageKind, Launcher, LaunchRequest, Log, Plan, Secret, Server, option

from .faults import FakeOptions, Faults


@frozen
class FakeLauncherOptions(FakeOptions):
    launch_seconds: Duration = option(0.0, help="How long a launch takes.")
    url: str = option(
        "http://127.0.0.1:1/fake/{id}/",
        help="Address to give out; {id} stands for the server. Nothing answers there unless you run it.",
    )


class FakeLauncher(Launcher[FakeLauncherOptions]):
    """Gives every client an address and a token of its own, and keeps the list of them."""

    Config = FakeLauncherOptions
    sections = ("Fake", "FakeLauncher")
    runs: ClassVar[ImageKind] = "oci"

    def __init__(self, config: FakeLauncherOptions, context: Context) -> None:
        super().__init__(config, context)
        self._faults = Faults(config)
        self._servers: dict[str, Server] = {}

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        log.line("Fake server requested\n")
        await self.context.clock.sleep(self.config.launch_seconds)
        await self._faults.at("launch")
        name = f"fake-{secrets.token_hex(8)}"
        url = self.config.url.replace("{id}", name).rstrip("/") + "/"
        server = Server(name, url, Secret(secrets.token_hex(16)), image.name)
        self._servers[name] = server
        log.line(f"Fake server {name}: nothing runs there\n")
        return server

    async def stop(self, server: Server) -> bool:
        return self._servers.pop(server.id, None) is not None

    async def servers(self) -> Sequence[Server]:
        return tuple(self._servers.values())
