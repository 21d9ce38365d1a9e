"""JupyterHub's REST API: requests that are repeated while that may help, and what the answers mean.

Source: JupyterHub's API handlers, versions 5 and 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from attrs import define, evolve, frozen
from ringbinder import (
    Clock,
    ConfigError,
    CredentialsError,
    Http,
    Refused,
    RingbinderError,
    Secret,
    TransientError,
    redact,
)
from ringbinder.concurrency import Retry, Silence, retry_after
from ringbinder.http import MAX_BODY
from ringbinder.untrusted import MAX_LOCK_VALUES, MalformedError, check_shape, parse_json, read_json

_REQUEST_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 10.0
_SHOWN: Final = 500
_PAGE: Final = 200
_OVERLAP: Final = 20
"""Users of one page that the next one has again: when users go between two requests, the others move up."""
_PASSING: Final = frozenset({502, 503, 504, 599})
"""Of a proxy whose hub is down, or of a hub that is about to stop."""
_SERVER: Final = {"pending?": str, "user_options?": {}}
USER: Final = {"name": str, "servers?": {str: _SERVER}}
"""What is read of a user's model, as a shape of `check_shape`."""
_USERS: Final = {"items": [USER], "_pagination": {"next?": {"offset": int, "limit": int}}}
_TOO_MANY: Final = 429
_ERROR: Final = 500


@frozen
class Reply:
    """An answer of the hub. `repeated`: the request was sent before, and may have been carried out then."""

    status: int
    body: Any
    retry_after: float | None = None
    repeated: bool = False

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def text(self) -> str:
        """What the hub says is wrong."""
        message = self.body.get("message") if isinstance(self.body, dict) else None
        return redact(message if isinstance(message, str) and message else f"HTTP status {self.status}")

    @property
    def message(self) -> str:
        """The same on one line, and not too long."""
        return " ".join(self.text[:_SHOWN].split())

    def shaped(self, shape: Mapping[Any, Any], what: str) -> Mapping[str, Any]:
        """The body, which has that shape (see `check_shape`). Raises TransientError if it has not."""
        try:
            check_shape(self.body, shape)
        except MalformedError as error:
            raise TransientError(f"JupyterHub could not {what}: its answer {error}") from None
        body: Mapping[str, Any] = self.body
        return body

    def refusal(self, what: str) -> RingbinderError:
        """What an answer means that is an error: `what` was asked of the hub, as in "start a server"."""
        reason = self.message.lower()
        ours = "scope" in reason or "credentials" in reason
        if self.status == 401 or (self.status == 403 and ours):
            return CredentialsError(
                "BinderHub.hub_api_token",
                f"JupyterHub does not let us {what}: {self.message}. The service's role needs the scopes admin:users "
                "and servers",
            )
        if self.status >= _ERROR:
            return TransientError(f"JupyterHub could not {what}: {self.message}")
        return Refused(self.message, status=self.status)


@define(eq=False)
class HubApi:
    """The API at `url`, asked with `token`."""

    http: Http
    clock: Clock
    url: str
    """With a slash at its end."""
    token: Secret
    tries: int
    delay: float
    """Seconds after the first of them that fails, and longer after the others."""
    seconds: float = _REQUEST_SECONDS
    """For one try of a request."""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token.reveal()}"}

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        tries: int | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """The hub's own answer, regardless of its status. `seconds` is for one try of this request.

        Raises TransientError if there is none: no connection, or only a proxy that cannot reach the hub.
        """
        sent = 0

        async def once() -> Reply:
            nonlocal sent
            sent += 1
            reply = await self._once(method, path, body, headers or {}, seconds or self.seconds)
            return evolve(reply, repeated=sent > 1)

        with Silence("JupyterHub has not answered"):
            return await evolve(self.retry, tries=tries or self.tries)(once)

    async def form(self, path: str, fields: Mapping[str, str]) -> Reply:
        """The answer to a form. Raises TransientError if there is none."""
        return await self._once("POST", path, None, {}, _ANSWER_SECONDS, fields)

    @property
    def retry(self) -> Retry:
        return Retry(self.delay, tries=self.tries, clock=self.clock)

    async def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        seconds: float,
        form: Mapping[str, str] | None = None,
    ) -> Reply:
        import httpx

        try:
            async with (
                asyncio.timeout(seconds),
                self.http.stream(
                    method, self.url + path, json=body, data=form, headers={**self.headers, **headers}, timeout=seconds
                ) as response,
            ):
                try:
                    content = await read_json(response.aiter_bytes(), MAX_BODY, values=MAX_LOCK_VALUES)
                except MalformedError:
                    content = None
        except TimeoutError:
            raise _silent(f"no answer within {seconds:g} seconds") from None
        except httpx.InvalidURL as error:
            raise ConfigError([f"BinderHub.hub_url: {self.url} cannot be asked: {error}"]) from None
        except httpx.HTTPError as error:
            raise _silent(redact(str(error)) or type(error).__name__) from None
        status = response.status_code
        asked = retry_after(response.headers.get("retry-after"), self.clock.time())
        if status in _PASSING:
            raise _silent(f"HTTP status {status}", asked)
        if status >= 300 and not isinstance(content, dict):
            # The hub's own errors are JSON: this is a proxy that has lost its routes, or no hub at all.
            raise _silent(f"HTTP status {status} and no JSON, from {redact(self.url)}", asked)
        return Reply(status, content, asked)

    async def users(self, state: Literal["active", "inactive"] = "active") -> list[Mapping[str, Any]]:
        """The models of users with active servers, or of those without any, page by page.

        Raises TransientError for another answer.
        """
        found: dict[str, Mapping[str, Any]] = {}
        offset = 0
        while True:
            reply = await self.ask(
                "GET",
                f"users?state={state}&offset={offset}&limit={_PAGE}",
                headers={"Accept": "application/jupyterhub-pagination+json"},
            )
            if not reply.ok:
                raise reply.refusal("list its users")
            page = reply.shaped(_USERS, "list its users")
            found |= {user["name"]: user for user in page["items"]}
            following = page["_pagination"].get("next")
            if not following:
                return list(found.values())
            # Some hubs have smaller pages.
            after = following["offset"] - min(_OVERLAP, following["limit"] // 2)
            if after <= offset:
                raise TransientError(f"JupyterHub could not list its users: after page {offset} comes {after}")
            offset = after


def user_path(name: str) -> str:
    """The path of a user in the API and below the hub's address; source: JupyterHub's `escaped_name`."""
    return quote(name, safe="@~")


def parsed(line: str) -> Mapping[str, Any] | None:
    """One line of the hub's progress stream, if it is an event."""
    if not line.startswith("data:"):
        return None
    try:
        event = parse_json(line.removeprefix("data:").encode())
    except MalformedError:
        return None
    return event if isinstance(event, dict) else None


def _silent(trouble: str, asked: float | None = None) -> TransientError:
    return TransientError(f"JupyterHub does not answer: {trouble}", asked)
