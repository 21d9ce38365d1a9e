"""Starting one server at the hub, and seeing that it is there; taking it away again in any state."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
from ringbinder import ConfigError, Log, Refused, RingbinderError, Secret, TransientError, UserError, redact
from ringbinder.concurrency import Silence
from ringbinder.untrusted import excerpt

from ._api import HubApi, Reply, parsed
from ._places import Place

_SILENCE: Final = 60.0
"""Seconds; the hub writes at least every 8 into a progress stream that has nothing to tell."""
_ANSWER_SECONDS: Final = 10.0
_LOOKS: Final = 5
_LOOK_AGAIN: Final = 0.5
_STOPPING: Final = 0.5
_LONGEST_STOP: Final = 120.0
_REFUSED: Final = re.compile(r"\bHTTP (4\d\d)\b(?:: [^()]*\((.*)\))?", re.DOTALL)
"""How the hub tells of an exception of its spawner that refuses; source: tornado's `HTTPError`."""
_BROKEN: Final = 422
"""What `spawner.py` raises for a server that ended before it answered; the lines after the first are its last."""
_LONGEST_REASON: Final = 500
_LONGEST_WORDS: Final = 4000
_NO_SERVER: Final = frozenset({424, 502, 503, 504})
_TOO_MANY: Final = 429


class NotStarted(RingbinderError):
    """The hub could not start a server, or has forgotten it in a restart: it may work the next time."""


@define(eq=False)
class Spawn:
    """One server at `place`, started with `options`."""

    api: HubApi
    place: Place
    options: Mapping[str, Any]
    log: Log
    begun: bool = field(default=False, init=False)
    """The hub may have begun to start it: it is to be taken away if it is not wanted any more."""
    _reported: set[str] = field(factory=set, init=False)

    async def start(self, *, may_exist: bool = False) -> str:
        """Starts the server and waits until the hub says that it is ready; gives the address that it says.

        `may_exist`: the server may have been started with these very options before. Raises NotStarted,
        Refused, ConfigError, TransientError.
        """
        while True:
            self.begun = True
            reply = await self.api.ask("POST", self.place.server_path, self.options)
            self.begun = reply.ok or reply.repeated or reply.status >= 500
            if reply.status != _TOO_MANY or reply.retry_after is None:
                break
            # The hub starts many servers just now, and says when to ask again.
            seconds = max(reply.retry_after, 1.0)
            self.log.line(f"JupyterHub is busy. Trying again in {seconds:.0f} seconds...\n")
            await self.api.clock.sleep(seconds)
        running = reply.status == 400 and (reply.repeated or may_exist)
        if not reply.ok and not running:
            raise self._not_started(reply)
        return await self._until_ready()

    async def _until_ready(self) -> str:
        import httpx

        number = 0
        while True:
            received = len(self._reported)
            try:
                address, trouble = await self._follow()
                if address is not None:
                    return address
            except httpx.HTTPError as error:
                trouble = redact(str(error)) or type(error).__name__
            number = number + 1 if len(self._reported) == received else 1
            if number >= self.api.tries:
                raise TransientError(f"JupyterHub does not answer: {trouble}")
            await self.api.clock.sleep(self.api.retry.pause(number - 1))

    async def _follow(self) -> tuple[str | None, str]:
        """Reads one progress stream: the server's address, or None and how the stream ended."""
        import httpx

        stream = self.api.http.stream(
            "GET",
            self.api.url + self.place.progress_path,
            headers={**self.api.headers, "Accept": "text/event-stream"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, read=_SILENCE),
        )
        silent = "JupyterHub has not answered"
        with Silence(lambda: silent) as silence:
            async with stream as response:
                if response.status_code in (400, 404):
                    raise NotStarted("JupyterHub does not know of this server any more")
                if response.status_code != 200:
                    return None, f"HTTP status {response.status_code}"
                silent = "JupyterHub has had no news of the server"
                async for line in response.aiter_lines():
                    if (event := parsed(line)) is None:
                        continue
                    message = str(event.get("message") or "")
                    if event.get("failed"):
                        raise self._failed(message)
                    if message and message not in self._reported:
                        self._reported.add(message)
                        silence.received()
                        self.log.line(message.rstrip("\n") + "\n")
                    if event.get("ready"):
                        return str(event.get("url") or ""), ""
        return None, "its progress stream ended too early"

    async def verify(self, url: str, token: Secret | None) -> None:
        """Sees that the server at `url` answers, and takes `token`; where `url` is no way to it, nothing.

        Raises NotStarted if no one answers there, ConfigError if the server does not know the token.
        """
        import httpx

        headers = {"Authorization": f"token {token.reveal()}"} if token else {}
        for look in range(_LOOKS):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    response = await self.api.http.get(f"{url}api/status", headers=headers)
            except (httpx.HTTPError, TimeoutError):
                return  # from here there is no way to the hub's proxy
            if token and response.status_code in (401, 403):
                raise ConfigError(
                    [
                        "JupyterHub started a server that does not take the token it was given: the hub's "
                        "spawner must be one with Ringbinder's BinderSpawnerMixin (docs/reference/launchers.md)"
                    ]
                )
            if response.status_code not in _NO_SERVER:
                return
            if look + 1 == _LOOKS:
                raise NotStarted(f"the server does not answer: HTTP status {response.status_code}")
            await self.api.clock.sleep(_LOOK_AGAIN)

    def _not_started(self, reply: Reply) -> RingbinderError:
        if reply.status == 404:
            return NotStarted("JupyterHub does not know of this user any more")
        if reply.status == _BROKEN:
            return self._broken(reply.text)
        if reply.status >= 500:
            return NotStarted(reply.message)
        return reply.refusal("start a server")

    def _failed(self, message: str) -> RingbinderError:
        """What a `failed` event of the hub means; its text is that of an exception in the hub."""
        problem = redact(message).strip().removeprefix("Spawn failed: ") or "it gives no reason"
        if (refused := _REFUSED.search(problem)) is None:
            return NotStarted(" ".join(problem.split()))
        status, why = int(refused[1]), refused[2] or problem
        return self._broken(why) if status == _BROKEN else Refused(" ".join(why.split()), status=status)

    def _broken(self, reason: str) -> UserError:
        """`reason` is what a spawner says, and on further lines what a stranger's server has written."""
        what, _, reason = reason.strip().partition("\n")
        what = excerpt(what, _LONGEST_REASON)
        if lines := reason[-_LONGEST_WORDS:].strip().split("\n") if reason else []:
            self.log.line("\n".join(lines) + "\n")
            what = f"{what}; the last that it said: {excerpt(lines[-1], _LONGEST_REASON)}"
        return UserError("launch-failed", what)


async def remove(api: HubApi, place: Place) -> bool:
    """Ends the server, and removes it and a temporary user; True if the hub knew it.

    Returns when the hub has carried it out. Raises what `HubApi.ask` and an answer raise.
    """
    async with asyncio.timeout(_LONGEST_STOP):
        reply = await api.ask("DELETE", place.server_path, {"remove": True} if place.server else None)
        known = reply.ok
        if not reply.ok and reply.status not in (400, 404):
            raise reply.refusal("stop a server")
        while not place.temporary and reply.ok and place.model((await api.ask("GET", place.user_path)).body):
            await api.clock.sleep(_STOPPING)
        while place.temporary:
            reply = await api.ask("DELETE", place.user_path)
            if reply.ok or reply.status == 404:
                break
            if reply.status != 400:  # the server is still stopping
                raise reply.refusal("remove a temporary user")
            await api.clock.sleep(_STOPPING)
    return known
