"""The web API of a git host or a data repository: repeated where that may help, and not twice for the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from math import inf
from typing import Any, Final

from attrs import define, evolve, field, frozen
from ringbinder import Context, TransientError, redact
from ringbinder.concurrency import Cache, Retry, retry_after
from ringbinder.untrusted import MalformedError, TooLargeError, read_json

_REMEMBERED: Final = 1024
_LONGEST_BODY: Final = 20_000_000
_MOST_VALUES: Final = 2_000_000
"""Commas in texts count too, and a gist may be a table."""
_LONGEST_WAIT: Final = 86_400.0
_REDIRECTS: Final = 5
_MISSING: Final = frozenset({404, 409, 410, 422})
_REQUEST_TIMEOUT: Final = 408


class TokenRefused(TransientError):
    """The other side does not accept our token: git may do without, and the operator has something to fix."""

    def __init__(self, title: str) -> None:
        super().__init__(f"{title} does not accept the access token that is configured")


@frozen
class Answer:
    """A response. `content` is its JSON, None if it has none."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: Any = None

    @property
    def retry_after(self) -> float | None:
        """Seconds, at most a day; None if the other side does not say how long to wait."""
        seconds = retry_after(self.headers.get("retry-after"), time.time())
        return None if seconds is None else min(seconds, _LONGEST_WAIT)

    def text(self, key: str) -> str:
        """The text under `key`; empty if there is none."""
        found = self.content.get(key) if isinstance(self.content, dict) else None
        return found if isinstance(found, str) else ""


@define(eq=False)
class Api:
    """`title` is what the other side is called; `base` is its address without a slash at the end.

    Answers are kept with their ETag and asked for again only if they have changed; that something is missing is
    believed for `remember_missing` seconds. One look-up takes at most `timeout` seconds with all repetitions.
    """

    title: str
    base: str
    context: Context
    retry: Retry
    timeout: float
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    remember_missing: float = 60.0
    _tagged: Cache[str, tuple[str, Answer]] = field(init=False)
    _missing: Cache[str, Answer] = field(init=False)

    def __attrs_post_init__(self) -> None:
        now = self.context.clock.monotonic
        self._tagged = Cache(_REMEMBERED, now)
        self._missing = Cache(_REMEMBERED, now)

    async def get(self, path: str) -> Answer:
        """The answer to a GET of `path`, which begins with a slash; of any status below 500.

        Raises TransientError if there is none, or none that can be understood.
        """

        def seconds(answer: Answer) -> float:
            return self.remember_missing if answer.status in _MISSING else 0.0

        return await self._missing.load(path, lambda: self._get(path), seconds)

    async def _get(self, path: str) -> Answer:
        try:
            async with asyncio.timeout(self.timeout):
                return await self.retry(lambda: self._once(path))
        except TimeoutError:
            raise self._trouble(f"did not answer within {self.timeout:g} seconds") from None

    async def _once(self, path: str) -> Answer:
        tagged = self._tagged.get(path)
        conditions = {"If-None-Match": tagged[0]} if tagged else {}
        status, headers, content = await self._request(path, conditions)
        if status >= 500 or status == _REQUEST_TIMEOUT:
            asked = Answer(status, headers).retry_after
            raise TransientError(f"{self.title} answered with HTTP status {status}", asked)
        if status == 304 and tagged:
            return evolve(tagged[1], headers=headers)
        answer = Answer(status, headers, content)
        if status == 200:
            if answer.content is None:
                raise self._trouble("answered with something that is no JSON")
            if etag := headers.get("etag"):
                self._tagged.put(path, (etag, answer), inf)
        return answer

    async def _request(self, path: str, conditions: Mapping[str, str]) -> tuple[int, Mapping[str, str], Any]:
        import httpx

        http = self.context.http
        try:
            request = http.build_request(
                "GET", self.base + path, headers={**self.headers, **conditions}, timeout=self.timeout
            )
            origin = (request.url.scheme, request.url.netloc)
            for _ in range(_REDIRECTS):
                response = await http.send(request, stream=True, follow_redirects=False)
                try:
                    content = await read_json(response.aiter_bytes(), _LONGEST_BODY, values=_MOST_VALUES)
                except TooLargeError as error:
                    raise self._trouble(f"gave an answer that {error}") from None
                except MalformedError:
                    content = None
                finally:
                    await response.aclose()
                if response.next_request is None:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return response.status_code, headers, content
                request = response.next_request
                if (request.url.scheme, request.url.netloc) != origin:
                    # Our token would go along.
                    raise self._trouble("redirects to another host")
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
            raise self._trouble(f"did not answer: {redact(str(error)) or type(error).__name__}") from None
        raise self._trouble("redirects without end")

    def _trouble(self, what: str) -> TransientError:
        return TransientError(f"{self.title} {what}")


def number(text: str | None) -> float | None:
    """A header's value, if it is a number."""
    text = (text or "").strip()[:12]
    return float(text) if text.isascii() and text.isdecimal() else None
