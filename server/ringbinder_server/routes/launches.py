"""`/api/v1/launches`: a launch as a thing with an address, which is asked for, watched, cancelled and stopped.

The id is a bearer secret, as is that of an event of `/build`: a ready launch comes with its token.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from attrs import define, field, frozen
from quart import Blueprint, Response, abort, jsonify, request
from ringbinder.errors import RingbinderError, UserError
from ringbinder.launches.sessions import Session
from werkzeug.exceptions import BadRequest

from ..request_context import Site, client_ip
from .build import NOT_BUILD_ONLY, rate_headers, resumed, stream, wants_events
from .build_logs import BUILD_LOG
from .images import refusal
from .openapi import DOCUMENT

_LONGEST_KEY = 255
_SHORTEST_KEY = 20
"""Of a client that has not logged in: many share one address, and the key alone gives the launch with its token."""
_MOST_KEYS = 10_000
_NO_STORE = {"Cache-Control": "no-store"}
_GUESSABLE_KEY = (
    f"An Idempotency-Key has at least {_SHORTEST_KEY} characters: it gives this launch to all who send it from the "
    "same address, so that it must be random, such as a UUID."
)


@frozen
class _Wanted:
    provider: str
    spec: str
    urlpath: str
    build_only: bool


@define(eq=False)
class _Keys:
    """Which launch an Idempotency-Key of a client stands for, as long as that can be asked for."""

    site: Site
    _known: OrderedDict[tuple[str, bytes], tuple[str, _Wanted]] = field(factory=OrderedDict)

    def find(self, key: str, wanted: _Wanted) -> Session | None:
        """The launch that was made with this key. Ends the request (422) if that was another one."""
        id, before = self._known.get(self._name(key), ("", wanted))
        session = self.site.binder.sessions.known.get(id)
        if session is not None and before != wanted:
            abort(422, "This Idempotency-Key was used for another launch.")
        return session

    def note(self, key: str, wanted: _Wanted, session: Session) -> None:
        self._known[self._name(key)] = session.id, wanted
        self._known.move_to_end(self._name(key))
        live = self.site.binder.sessions.known
        while len(self._known) > _MOST_KEYS or next(iter(self._known.values()))[0] not in live:
            self._known.popitem(last=False)

    def _name(self, key: str) -> tuple[str, bytes]:
        # Of clients at one address, the key itself tells who asks.
        owner = self.site.user.key if self.site.user else client_ip()
        return owner, hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def routes(site: Site) -> Blueprint:
    """The blueprint with all of them."""
    blueprint = Blueprint("launches", __name__)
    sessions, keys = site.binder.sessions, _Keys(site)

    def known(id: str) -> Session:
        session = sessions.known.get(id)
        if session is None or not site.is_for(session):
            abort(404, "There is no such launch, or it was too long ago.")
        return session

    @blueprint.post("/api/v1/launches")
    async def launch() -> Response:
        if reason := site.refusal():
            abort(403, reason)
        try:
            wanted = await _wanted(site)
        except UserError as error:
            return refusal(error)
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > _LONGEST_KEY:
            abort(400, f"An Idempotency-Key has at most {_LONGEST_KEY} characters.")
        if key and len(key) < _SHORTEST_KEY and site.user is None:
            abort(400, _GUESSABLE_KEY)
        session, status, headers = (keys.find(key, wanted) if key else None), 200, {}
        if session is None:
            wish = site.wish(wanted.provider, wanted.spec, wanted.urlpath, build_only=wanted.build_only)
            headers, status = await rate_headers(site, wish), 201
            try:
                session = site.binder.launch(wish)
            except RingbinderError as error:
                return refusal(error)
            if key:
                keys.note(key, wanted, session)
        return _response(site, session, status, headers)

    @blueprint.get("/api/v1/launches/<segment:id>")
    async def state(id: str) -> Response:
        session = known(id)
        sessions.polled(session)
        return _response(site, session, 200)

    @blueprint.get("/api/v1/launches/<segment:id>/events")
    async def events(id: str) -> Response:
        session = known(id)
        if not wants_events(site):
            abort(406, "These are events: text/event-stream")
        last_id = request.headers.get("Last-Event-ID", "")
        number = session.number_of(last_id)
        return stream(site, session, -1) if number is None else resumed(site, session, last_id, number)

    @blueprint.delete("/api/v1/launches/<segment:id>")
    async def end(id: str) -> Response:
        session = known(id)
        if reason := site.refusal():
            abort(403, reason)
        if not session.ended:
            sessions.cancel(session, "The launch was cancelled.")
            return _response(site, session, 202)
        if (server := sessions.remove(session)) is not None:
            await site.binder.servers.stop(server)
        return Response(status=204)

    @blueprint.get("/api/v1/openapi.json")
    async def openapi() -> Response:
        return jsonify({**DOCUMENT, "servers": [{"url": site.settings.base_url.rstrip("/") or "/"}]})

    return blueprint


async def _wanted(site: Site) -> _Wanted:
    """What the body asks for. Raises UserError if its link means nothing; ends the request if it is malformed."""
    try:
        body = await request.get_json()
    except (BadRequest, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body is not an object.")
    if unknown := sorted(body.keys() - {"link", "provider", "spec", "build_only"}):
        raise BadRequest(f"Unknown: {', '.join(unknown)[:200]}.")
    build_only = body.get("build_only", False)
    if not isinstance(build_only, bool):
        raise BadRequest("build_only is true or false.")
    if build_only and not site.settings.enable_api_only_mode:
        abort(403, NOT_BUILD_ONLY)
    match body:
        case {"link": str(text)} if "provider" not in body and "spec" not in body:
            link = site.link(text)
            return _Wanted(link.provider, link.spec, link.urlpath, build_only)
        case {"provider": str(provider), "spec": str(spec)} if provider and spec and "link" not in body:
            return _Wanted(provider, spec, "", build_only)
    raise BadRequest("Either link, or provider and spec, are needed: texts that are not empty.")


def _response(site: Site, session: Session, status: int, headers: dict[str, str] | None = None) -> Response:
    newest = session.newest
    terminal, path = session.terminal, f"{site.settings.base_url}api/v1"
    fields: dict[str, Any] = {
        "id": session.id,
        "provider": session.request.provider,
        "spec": session.request.spec,
        "build_only": session.request.build_only,
        "state": newest.phase if newest else "waiting",
        "message": newest.message if newest else "",
        "ended": terminal is not None,
        "result": {"phase": terminal.phase, "message": terminal.message, **terminal.data} if terminal else None,
        "url": f"{path}/launches/{session.id}",
        "events_url": f"{path}/launches/{session.id}/events",
        "log_url": f"{site.settings.base_url}{BUILD_LOG.format(id=session.run.id)}" if session.run else None,
    }
    response = jsonify(fields)
    response.status_code = status
    response.headers.update({**_NO_STORE, **(headers or {})})
    if status == 201:
        response.headers["Location"] = fields["url"]
    return response
