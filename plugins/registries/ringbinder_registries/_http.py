"""Requests to a registry or its token server: retried while that may help, then a `TransientError`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from attrs import define, field, frozen
from ringbinder import ConfigError, DigestMismatch, Http, TransientError, redact
from ringbinder.concurrency import Retry, retry_after
from ringbinder.http import MAX_BYTES
from ringbinder.untrusted import MalformedError, TooLargeError, parse_json, read_bounded

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_NOT_IMPLEMENTED: Final = 501
LONGEST_BODY: Final = 1_000_000
_SHOWN: Final = 200
_UNTRUSTED: Final = (
    "its certificate is not trusted; give it a valid one, or set SSL_CERT_FILE to a file with its authority's"
)


@frozen
class Answer:
    """A response that has arrived. `challenges` are the values of `WWW-Authenticate`."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    challenges: tuple[str, ...]
    body: bytes
    url: str
    whole: bool = True
    """False: the body had more bytes than were to be read, and `body` is empty."""

    def json(self) -> Mapping[str, Any]:
        """The body as an object; empty if it is anything else."""
        try:
            content = parse_json(self.body)
        except MalformedError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def error(self) -> Mapping[str, Any]:
        """The first error object of the OCI distribution specification; else the whole body as an object."""
        content = self.json()
        errors = content.get("errors")
        return errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else content

    @property
    def message(self) -> str:
        """What the other side says is wrong, in a few words; empty if it does not say so in a known form.

        Source: the error object of the OCI distribution specification, and that of OAuth2.
        """
        first = self.error
        words = [first.get(name) for name in ("code", "error", "message", "error_description", "details")]
        text = ": ".join(word for word in words if isinstance(word, str) and word)
        return redact("".join(c if c.isprintable() else " " for c in text[:_SHOWN]))


@define(eq=False)
class Outgoing:
    """The body of one request: `size` bytes of `content`.

    While `content` is waited for, no time limit runs: `clocked` has it begin when the other side has to take a piece.
    `failure` is what `content` has raised, which the HTTP client would hide.
    """

    content: AsyncIterator[bytes]
    size: int
    failure: Exception | None = field(default=None, init=False)
    _timer: asyncio.Timeout | None = field(default=None, init=False)
    _limit: float = field(default=0.0, init=False)
    _sent: int = field(default=0, init=False)
    _reading: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    def clocked(self, timer: asyncio.Timeout, limit: float) -> None:
        """Has `timer` expire where a piece, or the response after the last one, takes more than `limit` seconds."""
        self._timer, self._limit = timer, limit

    def __aiter__(self) -> Self:
        if self._sent:  # aiohttp repeats a PUT on a new connection if the server has closed the one that it kept
            raise OSError("the body was sent already")
        return self

    async def __anext__(self) -> bytes:
        async with self._reading:
            self._wait_at_most(None)
            try:
                piece = await anext(self.content, None)
                self._count(piece)
            except Exception as error:
                self.failure = error
                raise
            finally:
                self._wait_at_most(self._limit or None)
            if piece is None:
                raise StopAsyncIteration
            return piece

    async def close(self) -> None:
        """Closes `content`, once nothing reads from it any more."""
        async with self._reading:
            if isinstance(self.content, AsyncGenerator):
                await self.content.aclose()

    def _count(self, piece: bytes | None) -> None:
        self._sent += len(piece or b"")
        if self._sent > self.size:
            raise DigestMismatch(f"the content to send has more than the {self.size} bytes that were announced")
        if piece is None and self._sent < self.size:
            raise DigestMismatch(f"the content to send ends after {self._sent} of {self.size} bytes")

    def _wait_at_most(self, seconds: float | None) -> None:
        if self._timer is not None:
            with suppress(RuntimeError):  # it has expired, or the response was there before all was sent
                self._timer.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


@frozen
class Incoming(Answer):
    """A response with status 200 or 206 whose body is yet to be read, with `limit` seconds for each piece of it."""

    response: Any = None
    of: str = ""
    limit: float = 0.0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body. Raises TransientError where it breaks off."""
        pieces = self.response.aiter_bytes()
        while True:
            with _as_ours(self.of, self.limit, self.url):
                async with asyncio.timeout(self.limit or None):
                    piece = await anext(pieces, b"")
            if not piece:
                return
            yield piece

    async def close(self) -> None:
        await self.response.aclose()


@frozen
class Requests:
    """The shared client, with which a request is repeated. `limit` is the seconds that one may take."""

    http: Http
    retry: Retry
    limit: float

    async def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        *,
        of: str,
        content: bytes | None = None,
        most: int = LONGEST_BODY,
        more_seconds: float = 0.0,
        once: bool = False,
    ) -> Answer:
        """The answer, redirects followed; credentials stay at the first host. `of` names the other side.

        At most `most` bytes of a body are read. `more_seconds` are added to the time limit. `once`: not repeated.
        Raises TransientError if there is none in the end, ConfigError if there cannot be one.
        """

        async def ask() -> Answer:
            limit = self.limit and self.limit + more_seconds
            with _as_ours(of, limit, url):
                request = self.http.build_request(
                    method, url, headers=dict(headers), data=form, content=content, timeout=limit or None
                )
                async with asyncio.timeout(limit or None):
                    # What is posted may hold a password, and would be posted again wherever a redirect leads.
                    response = await self.http.send(request, stream=True, follow_redirects=method in ("GET", "HEAD"))
                    return self._judged(await _read(response, most), of)

        return await (ask() if once else self.retry(ask))

    async def upload(
        self, method: str, url: str, headers: Mapping[str, str], body: Outgoing, *, of: str, more_seconds: float = 0.0
    ) -> Answer:
        """Sends `body`, once. `limit` is for each piece of it, and with `more_seconds` for the response after the last.

        Raises as a call does, and what the content of `body` raises.
        """
        limit = self.limit and self.limit + more_seconds
        try:
            with _as_ours(of, limit, url):
                sized = {**headers, "Content-Length": str(body.size)}
                request = self.http.build_request(method, url, headers=sized, content=body, timeout=None)
                async with asyncio.timeout(limit or None) as timer:
                    body.clocked(timer, limit)
                    response = await self.http.send(request, stream=True, follow_redirects=False)
                    answer = await _read(response, LONGEST_BODY)
        except Exception:
            if body.failure is not None:
                raise body.failure from None
            raise
        finally:
            await body.close()
        return self._judged(answer, of)

    async def open(self, url: str, headers: Mapping[str, str], *, of: str, most: int) -> Answer:
        """An `Incoming`, which is to be closed, or an answer with another status. Raises as a call does.

        A body of more than `most` bytes breaks off.
        """

        async def ask() -> Answer:
            with _as_ours(of, self.limit, url):
                extensions = {MAX_BYTES: most}
                request = self.http.build_request(
                    "GET", url, headers=dict(headers), timeout=None, extensions=extensions
                )
                async with asyncio.timeout(self.limit or None):
                    response = await self.http.send(request, stream=True, follow_redirects=True)
                    if response.status_code not in (200, 206):
                        return self._judged(await _read(response, LONGEST_BODY), of)
            head = _head(response)
            return Incoming(*head, b"", str(response.url), response=response, of=of, limit=self.limit)

        return await self.retry(ask)

    def _judged(self, answer: Answer, of: str) -> Answer:
        """The answer, unless it says that to ask again may help."""
        if _passing(answer.status):
            asked = retry_after(answer.headers.get("retry-after"), self.retry.clock.time())
            raise TransientError(f"{of} did not answer: HTTP status {answer.status}", asked)
        return answer


def _head(response: Any) -> tuple[int, Mapping[str, str], tuple[str, ...]]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return response.status_code, headers, tuple(response.headers.get_list("www-authenticate"))


async def _read(response: Any, most: int) -> Answer:
    """The whole response, which is closed."""
    try:
        body, whole = await read_bounded(response.aiter_bytes(), most), True
    except TooLargeError:
        body, whole = b"", False
    finally:
        await response.aclose()
    return Answer(*_head(response), body, str(response.url), whole)


@contextmanager
def _as_ours(of: str, limit: float, url: str) -> Iterator[None]:
    """Raises TransientError or ConfigError for what the HTTP client raises."""
    import httpx

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigError([f"{of}: {redact(url)} is no address that can be asked: {error}"]) from None
    except TimeoutError:
        raise TransientError(f"{of} did not answer: it needs more than {limit:g} seconds") from None
    except httpx.HTTPError as error:
        if _untrusted(error):
            raise ConfigError([f"{of}: {_UNTRUSTED} ({redact(str(error))})"]) from None
        raise TransientError(f"{of} did not answer: {redact(str(error)) or type(error).__name__}") from None


def _passing(status: int) -> bool:
    return status == _TOO_MANY_REQUESTS or (status >= _SERVER_ERRORS and status != _NOT_IMPLEMENTED)


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate is at the bottom of it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
