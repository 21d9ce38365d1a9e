"""Launches under way, in the hub's own state: beside each temporary user a second one, until the server is handed out.

It starts no server, and its name says whose launch it records, signed with our token at the hub: a name that a person
has chosen there records nothing. A replica reports activity of its launches again and again; where that ends, another
one or the next start takes away what was begun. No other right is needed than for temporary users: `admin:users` has
`users:activity` in it.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from ._api import HubApi, user_path
from ._places import Place

_MARK: Final = "-launching-"
_SIGNED: Final = 16


def _record(api: HubApi, place: Place) -> str:
    """Name of the second user."""
    signed = hmac.digest(api.token.reveal().encode(), f"launch {place.user}".encode(), "sha256")
    return f"{place.user}{_MARK}{base64.b32encode(signed).decode().lower()[:_SIGNED]}"


@define(eq=False)
class Records:
    """Of one launcher. Every method raises what `HubApi.ask` and an answer raise."""

    _before: dict[str, object] = field(factory=dict, init=False)

    async def begin(self, api: HubApi, place: Place) -> bool:
        """Makes the temporary user of `place` and the record, in one request; False if the user was there before."""
        made = await self._make(api, place)
        if _record(api, place) not in made:
            # That of a launch that somebody else has begun: written again, it is no longer theirs.
            await self.end(api, place)
            made |= await self._make(api, place)
        return place.user in made

    async def _make(self, api: HubApi, place: Place) -> set[str]:
        names = {_record(api, place), place.user}
        reply = await api.ask("POST", "users", {"usernames": sorted(names)})
        if not reply.ok and reply.status != 409:
            raise reply.refusal("make a temporary user")
        if reply.repeated:  # the first request may have made them
            return names
        made = reply.body if isinstance(reply.body, list) else []
        return {str(user.get("name")) for user in made if isinstance(user, dict)}

    async def report(self, api: HubApi, place: Place) -> None:
        """Reports that the launch is under way."""
        now = {"last_activity": datetime.now(UTC).isoformat()}
        reply = await api.ask("POST", f"users/{user_path(_record(api, place))}/activity", now)
        if not reply.ok and reply.status != 404:
            raise reply.refusal("report that a launch is under way")

    async def end(self, api: HubApi, place: Place) -> None:
        """The server is handed out, or nothing is left of it."""
        reply = await api.ask("DELETE", f"users/{user_path(_record(api, place))}")
        if not reply.ok and reply.status != 404:
            raise reply.refusal("remove a temporary user")

    async def abandoned(self, api: HubApi) -> Sequence[Place]:
        """Launches of any replica on which no one has worked since this was asked before."""
        before, self._before = self._before, {}
        for user in await api.users("inactive"):
            launch = user["name"].rpartition(_MARK)[0]
            if launch and hmac.compare_digest(user["name"].encode(), _record(api, Place(launch)).encode()):
                self._before[launch] = (user.get("created"), user.get("last_activity"))
        return [Place(name) for name, seen in self._before.items() if before.get(name) == seen]
