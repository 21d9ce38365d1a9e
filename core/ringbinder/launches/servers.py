"""The servers that run, and how each of them ends."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from ..errors import PluginError
from ..model import Server
from .reporting import StageEvents
from .stages import Stages


@define
class Servers:
    """The launcher's servers; every end of one passes through `stopped`."""

    _stages: Stages
    _reporter: StageEvents

    async def running(self) -> Sequence[Server]:
        """The servers that run now. Raises what a launcher raises."""
        launcher = self._stages.settings.chosen["launcher"]
        answers = await self._stages.hooks.servers(launcher)
        if not answers:  # a quota must not take that for no servers
            raise PluginError(launcher, "no plugin lists the servers that run", "servers")
        return [server for _, listed in answers for server in listed]

    async def stop(self, server: Server) -> bool:
        """Ends a server; True if the launcher knew it."""
        launcher = self._stages.settings.chosen["launcher"]
        known = bool(await self._stages.hooks.stop(launcher, server=server))
        if known:
            self.stopped(server.id, "stopped")
        return known

    def stopped(self, server: str, reason: str, seconds: float | None = None, why: str = "") -> None:
        """See `context.Servers.stopped`."""
        self._reporter.server_stopped(server, reason, seconds, why)
