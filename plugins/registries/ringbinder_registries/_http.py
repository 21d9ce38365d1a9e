"""Requests to a registry or its token server: retried while that may help, then a `TransientError`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen
from ringbinder import ConfigError, Http, TransientError, redact
from ringbinder.concurrency import Retry, retry_after
from ringbinder.untrusted import MalformedError, TooLargeError, parse_json, read_bounded

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_NOT_IMPLEMENTED: Final = 501
_LONGEST_BODY: Final = 1_000_000
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

    def json(self) -> Mapping[str, Any]:
        """The body as an object; empty if it is anything else."""
        try:
            content = parse_json(self.body)
        except MalformedError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def message(self) -> str:
        """What the other side says is wrong, in a few words; empty if it does not say so in a known form.

        Source: the error object of the OCI distribution specification, and that of OAuth2.
        """
        content = self.json()
        errors = content.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else content
        words = [first.get(name) for name in ("code", "error", "message", "error_description", "details")]
        text = ": ".join(word for word in words if isinstance(word, str) and word)
        return redact("".join(c if c.isprintable() else " " for c in text[:_SHOWN]))


@frozen
class Requests:
    """The shared client, with which a request is repeated. `limit` is the seconds that one may take."""

    http: Http
    retry: Retry
    limit: float

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None, *, of: str
    ) -> Answer:
        """The answer, redirects followed; credentials stay at the first host. `of` names the other side.

        Raises TransientError if there is none in the end, ConfigError if there cannot be one.
        """
        return await self.retry(lambda: self._once(method, url, headers, form, of))

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None, of: str
    ) -> Answer:
        import httpx

        try:
            request = self.http.build_request(method, url, headers=dict(headers), data=form, timeout=self.limit)
            # What is posted may hold a password, and would be posted again wherever a redirect leads.
            follow = method in ("GET", "HEAD")
            async with asyncio.timeout(self.limit or None):
                response = await self.http.send(request, stream=True, follow_redirects=follow)
                try:
                    body = await read_bounded(response.aiter_bytes(), _LONGEST_BODY)
                except TooLargeError:
                    body = b""
                finally:
                    await response.aclose()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigError([f"{of}: {redact(url)} is no address that can be asked: {error}"]) from None
        except TimeoutError:
            raise TransientError(f"{of} did not answer: it needs more than {self.limit:g} seconds") from None
        except httpx.HTTPError as error:
            if _untrusted(error):
                raise ConfigError([f"{of}: {_UNTRUSTED} ({redact(str(error))})"]) from None
            raise TransientError(f"{of} did not answer: {redact(str(error)) or type(error).__name__}") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        if _passing(status := response.status_code):
            asked = retry_after(headers.get("retry-after"), self.retry.clock.time())
            raise TransientError(f"{of} did not answer: HTTP status {status}", asked)
        challenges = tuple(response.headers.get_list("www-authenticate"))
        return Answer(status, headers, challenges, body, str(response.url))


def _passing(status: int) -> bool:
    return status == _TOO_MANY_REQUESTS or (status >= _SERVER_ERRORS and status != _NOT_IMPLEMENTED)


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate is at the bottom of it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
