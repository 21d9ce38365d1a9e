"""`/build/<provider>/<spec>`: one launch as a stream of server-sent events.

Facts of BinderHub's protocol: always HTTP 200 and ``text/event-stream``, one JSON object a line after
``data: ``, comments against silence, errors as one `failed` event. New are the ``id:`` lines, by which a
client that lost its connection goes on where it was: a reconnect never starts a second launch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus

from quart import Blueprint, Response, request
from ringbinder.errors import Refused, UserError
from ringbinder.launches.sessions import Session, Span
from ringbinder.model import LaunchRequest, Link
from ringbinder.protocol import Event, failed
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.http import parse_accept_header

from ..request_context import Site, urlpath_asked

_KEEPALIVE = b":keepalive\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_READER = b"\0"
"""Stands for the session's id in what is rendered once for all; JSON never has this byte."""
_REFUSED_ID = b"0.end"
"""Id of an event without a session: a browser that reconnects by itself is answered with 204 and gives up."""


def routes(site: Site) -> Blueprint:
    """The blueprint with the endpoint."""
    blueprint = Blueprint("wire", __name__)

    @blueprint.get("/build/<segment:provider>/<rest:spec>")
    async def build(provider: str, spec: str) -> Response:
        if request.method == "HEAD":
            raise MethodNotAllowed(valid_methods=["GET", "OPTIONS"])  # a GET starts something
        return await answer(site, provider, spec)

    return blueprint


async def answer(site: Site, provider: str, spec: str) -> Response:
    """The stream for the current request: a new session, or the rest of the one that Last-Event-ID names."""
    last_id = request.headers.get("Last-Event-ID", "")
    session = site.binder.sessions.find(last_id) if last_id else None
    if session is not None and not site.is_for(session):
        session = None
    if session is None and last_id.endswith(".end"):
        return Response(status=204)
    if refusal := site.refusal():
        return refused(refusal, 403)
    if not wants_events(site):
        return refused("Missing Accept header: text/event-stream", 400)
    token = request.args.get("build_token", "")
    if token and not site.has_good_token(token, provider, spec):
        redirected = {"advice": _HOW_TO_SHARE} if request.headers.get("Origin") else {}
        return refused("Invalid build token", 403, **redirected)
    build_only = request.args.get("build_only", "").lower() == "true"
    if build_only and not site.settings.enable_api_only_mode:
        return refused(NOT_BUILD_ONLY, 400)
    wish = site.wish(provider, spec, urlpath_asked(), build_only=build_only, build_token=bool(token))
    if session is not None and (session.request.provider, session.request.spec) == (provider, wish.spec):
        number = session.number_of(last_id)
        if number is not None:
            return resumed(site, session, last_id, number)
    headers = await rate_headers(site, wish)
    try:
        session = site.binder.launch(wish)
    except UserError as error:
        return alone(failed(error.message, code=error.code, status_code=400))
    except Refused as error:
        site.binder.log.warning("a launch was refused", reason=error.reason)
        wait = error.retry_after
        return alone(failed(error.reason, code="refused", status_code=error.status, retry_after=wait))
    if request.headers.get("Sec-Fetch-Site") == "same-origin" and not site.binder.services.public:
        # Our own page asks for this once its visitor has pressed Launch.
        await site.binder.consents().give(Link(provider, wish.spec))
    return stream(site, session, -1, headers)


_HOW_TO_SHARE = (
    "If opening the link again does not help, the servers behind the redirector have different secrets: their "
    "operator can give them the same BinderHub.build_token_secret."
)

NOT_BUILD_ONLY = (
    "Building but not launching is not permitted when the API only mode was not enabled by setting "
    "`enable_api_only_mode` to True."
)


async def rate_headers(site: Site, wish: LaunchRequest) -> dict[str, str]:
    """How many builds the client may still start, under BinderHub's names; empty if that is not counted."""
    allowance = await site.binder.allowance(wish)
    if allowance is None:
        return {}
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(math.ceil(allowance.reset)),
    }


def resumed(site: Site, session: Session, last_id: str, number: int) -> Response:
    """What comes after the event `number`, whose id is `last_id`; nothing (204) after the last one."""
    if last_id.endswith(".end") or (session.ended and number == session.last):
        return Response(status=204)
    return stream(site, session, number)


def alone(event: Event) -> Response:
    """A stream of one event, for what ends before a session begins."""
    frame = b"id: %s\ndata: %s\n\n" % (_REFUSED_ID, event.json)
    return Response(frame, content_type="text/event-stream", headers=_HEADERS)


def refused(message: str, status: int, **data: str) -> Response:
    """`alone`, where no launch begins: the event's code is the HTTP status in words, as in answers of the API."""
    code = HTTPStatus(status).phrase.lower().replace(" ", "-")
    return alone(failed(message, code=code, status_code=status, **data))


def wants_events(site: Site) -> bool:
    """Whether the current request takes an event stream."""
    # Crawlers that follow links, and people who open one, name text/html; programs send */* or nothing.
    # Not `request.accept_mimetypes`, which would be kept for as long as the stream is open.
    accept = parse_accept_header(request.headers.get("Accept"), MIMEAccept)
    named = {kind.lower() for kind, quality in accept if quality > 0}
    if "text/event-stream" in named:
        return True
    if site.binder.config.settings.strict_accept:
        return False
    return not accept or (accept.quality("text/event-stream") > 0 and "text/html" not in named)


def stream(site: Site, session: Session, after: int, headers: Mapping[str, str] | None = None) -> Response:
    """The events of `session` after number `after`, as they come."""
    response = Response(
        _events(site, session, after), content_type="text/event-stream", headers={**_HEADERS, **(headers or {})}
    )
    response.timeout = None
    return response


def _frames(events: Sequence[tuple[int, Event]]) -> bytes:
    return b"".join(
        b"id: %s.%d%s\ndata: %s\n\n" % (_READER, number, b".end" if event.terminal else b"", event.json)
        for number, event in events
    )


async def _events(site: Site, session: Session, after: int) -> AsyncGenerator[bytes, None]:
    beat = site.binder.config.settings.keepalive
    span: Span | None = None
    reader = session.id.encode()
    with site.binder.services.metrics.open_streams.track_inprogress():
        async with aclosing(session.spans(after, beat, paced=True)) as spans:
            async for span in spans:
                yield span.rendered(_frames).replace(_READER, reader) if span else _KEEPALIVE
        last = session.terminal
        launched = last is not None and last.phase == "ready" and not session.request.build_only
        del session, spans, span, last  # an idle response holds nothing
        if launched:
            async with aclosing(_hold(site, beat)) as beats:
                async for keepalive in beats:
                    yield keepalive


async def _hold(site: Site, beat: float) -> AsyncGenerator[bytes, None]:
    """Keepalives until the client closes, the server stops or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + site.hold
    while (left := end - loop.time()) > 0 and not site.closing.is_set():
        try:
            async with asyncio.timeout(min(beat, left)):
                await site.closing.wait()
        except TimeoutError:
            yield _KEEPALIVE
