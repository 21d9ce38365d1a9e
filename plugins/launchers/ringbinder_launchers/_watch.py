"""Which servers that were launched from here the hub has ended since: culled, stopped there, or ended by themselves.

The hub sends no events, so it is asked for its users: once per interval for all servers, and not at all while a
quota asks for them as often, or while no server is known to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field, frozen
from ringbinder import Context, Secret
from ringbinder.concurrency import Loop

from ._api import HubApi
from ._places import Place

_REASON: Final = "gone"
_TOLD: Final = "it was ended at the JupyterHub: by its culler, by somebody there, or by itself"


@frozen(eq=False)
class Launched:
    """A server that runs, as far as is known here. By its `token`, another server at its place is not taken for it."""

    token: Secret
    at: float


@define(eq=False)
class Watch:
    """Of all servers of one launcher; `interval` in seconds."""

    context: Context
    interval: float
    _launched: dict[str, Launched] = field(factory=dict, init=False)
    _asked_at: float = field(default=0.0, init=False)

    def add(self, place: Place, token: Secret) -> None:
        """Its server is ready. What was at its place before has ended, unless it is this server."""
        known = self._launched.get(place.id)
        if known is not None:
            if known.token.reveal() == token.reveal():
                return
            self._tell(place.id)
        self._launched[place.id] = Launched(token, self.context.clock.monotonic())

    def drop(self, id: str) -> Launched | None:
        """It is to be ended from here, which is reported elsewhere."""
        return self._launched.pop(id, None)

    def keep(self, id: str, launched: Launched | None) -> None:
        """What was dropped has not been ended from here after all."""
        if launched is not None:
            self._launched.setdefault(id, launched)

    async def users(self, api: HubApi) -> Sequence[Mapping[str, Any]]:
        """The hub's users with servers that are active. Tells of what has gone. Raises what an answer raises."""
        before = dict(self._launched)  # what becomes ready meanwhile need not be in the list
        self._asked_at = self.context.clock.monotonic()
        users = await api.users()
        running = {
            Place(user["name"], name).id: (model.get("user_options") or {}).get("token")
            for user in users
            for name, model in (user.get("servers") or {}).items()
            if model.get("pending") != "stop"
        }
        for id, launched in before.items():
            if self._launched.get(id) is launched and running.get(id) != launched.token.reveal():
                self._tell(id)
        return users

    def _tell(self, id: str) -> None:
        seconds = self.context.clock.monotonic() - self._launched.pop(id).at
        self.context.servers.stopped(id, _REASON, seconds, _TOLD)
        self.context.log.info("a server has gone at JupyterHub", server=id)

    async def run(self, api: HubApi) -> None:
        """Asks until it is cancelled."""
        self._asked_at = self.context.clock.monotonic()
        missed = "servers that end there are not noticed"
        loop = Loop("the watch of the JupyterHub", missed, self.context.log, self.context.clock)
        await loop.run(lambda: self._ask_when_due(api))

    async def _ask_when_due(self, api: HubApi) -> None:
        clock = self.context.clock
        while not self._launched or self._asked_at + self.interval > clock.monotonic():
            if self._asked_at + self.interval <= clock.monotonic():
                self._asked_at = clock.monotonic()
            await clock.sleep(self._asked_at + self.interval - clock.monotonic())
        await self.users(api)
