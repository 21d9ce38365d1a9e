"""The application of Quart: routes, headers of every answer, and what an error looks like."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from quart import Blueprint, Quart, Response, abort, jsonify, render_template, request
from quart.wrappers.base import BaseRequestWebsocket
from ringbinder.app import Ringbinder
from ringbinder.protocol import failed
from ringbinder.secret import Secret
from structlog.contextvars import bind_contextvars
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import BaseConverter, MapAdapter, RequestRedirect

from .connections import Disconnected
from .request_context import Site, client_ip, scope
from .routes import build as wire
from .routes import build_logs as builds
from .routes import images, launches, legacy, login, notebooks, pages
from .routes import status as api
from .security import access_token as access
from .security.origins import Guard
from .security.proxies import Network, believe, networks
from .templating import Look

_LONGEST_BODY = 64 * 1024
_FOR_PROBES = frozenset({"api.health", "api.versions"})
_FOR_PROGRAMS = frozenset({"api", "launches", "images", "builds"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_ADDRESS = re.compile(rb"\A[a-z][a-z0-9+.-]*://[^/?]*", re.IGNORECASE)

_NO_DOCUMENTS = frozenset({"text/event-stream", "text/javascript", "text/css"})
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
_HEADERS = {
    **_NO_SNIFFING,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    # Nothing inline and nothing from elsewhere; a foreign page must not frame the button "Launch".
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; object-src 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
}


class _Segment(BaseConverter):
    """What stands between two slashes; may be anything."""

    regex = r"[^/]+"


class _Rest(BaseConverter):
    """All the rest of the path, however many slashes it has."""

    regex = r".+"
    part_isolating = False


class _NoHost(MapAdapter):
    """Routes of a request whose Host header is no host name: there are none."""

    def match(self, *args: object, **kwargs: object) -> NoReturn:
        raise BadHost("The header Host of this request is not the name of a host.")


class _App(Quart):
    """Routes by the path as it was sent: in a link, ``%2F`` is no slash, and nothing is decoded here."""

    trusted: tuple[Network, ...] = ()
    """Where the proxies stand whose word on the client is believed."""

    async def asgi_app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket":
            # There is none here, and no check before a request would see it. Hypercorn answers 403.
            await send({"type": "websocket.close", "code": 1008, "reason": None})
            return
        if scope["type"] == "http":
            _name_request(scope)
            believe(scope, self.trusted)
            scope["path"] = _ADDRESS.sub(b"", scope["raw_path"], count=1).decode("ascii") or "/"
        with suppress(Disconnected):
            await super().asgi_app(scope, receive, send)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        # What is raised here reaches no error handler: Quart would answer 500, without a word.
        try:
            return super().create_url_adapter(request)
        except BadHost:
            return _NoHost(self.url_map, "", "/", "", "http", "/", "GET")


def _name_request(scope: HTTPScope) -> None:
    """Gives a request its id, a proxy's if it has sent one: all its log lines carry it."""
    given = [value for name, value in scope["headers"] if name.lower() == b"x-request-id"]
    id = given[0].decode("latin-1") if given else ""
    id = id if _REQUEST_ID.fullmatch(id) else secrets.token_hex(8)
    scope["state"]["request"] = id
    bind_contextvars(request=id)


def create_app(binder: Ringbinder, bound: str = "127.0.0.1", hold: float = 60.0, token: Secret | None = None) -> Quart:
    """The application for a running Ringbinder that listens on the address `bound`.

    `hold` is for how many seconds a stream stays open after `ready`. `token` is demanded of clients; the default
    is the configured one, if there is one. Set `app.extensions["site"].closing`
    before stopping the server: streams that have nothing more to tell then end. Raises ConfigError if the
    operator's own templates or files are not there or are broken.
    """
    site = Site(binder, Guard.of(binder.config, bound), hold)
    app = _App(__name__, static_folder=None)
    app.trusted = networks(binder.config.settings.trusted_proxies)
    app.extensions["site"] = site
    app.config["MAX_CONTENT_LENGTH"] = _LONGEST_BODY
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"segment": _Segment, "rest": _Rest}
    under_base = {"url_prefix": site.settings.base_url.rstrip("/") or None}
    look = Look(site)
    look.install(app)
    rooms = (wire, api, launches, images, builds, legacy)
    blueprints: list[Blueprint] = [room.routes(site) for room in rooms]
    if not site.settings.enable_api_only_mode:
        blueprints += [pages.routes(site, look), legacy.redirects(site.settings)]
        if site.is_own_machine:
            blueprints.append(notebooks.routes(site))
    if site.settings.auth_enabled:
        blueprints.append(login.routes(site))
    app.register_blueprint(legacy.robots(site.settings))
    for blueprint in blueprints:
        app.register_blueprint(blueprint, **under_base)
    _handle_errors(app, site)

    @app.before_request
    async def refuse_unknown_host() -> None:
        # A stream says it in an event. Probes and scrapers in a cluster use the address of a pod.
        if request.blueprint == "wire" or request.endpoint in _FOR_PROBES:
            return
        if isinstance(request.routing_exception, BadHost):
            return  # no name at all, which is answered with 400
        asker = site.asker()
        if request.endpoint == "api.metrics" and asker.by_address:
            return
        if reason := site.guard.unknown_host(asker):
            abort(403, reason)

    if site.is_own_machine:
        access.leave_localhost(app, bound)
    if (token := token or binder.config.settings.access_token) is not None:
        demanded = access.Access(token, binder.services.clock, site.settings.base_url)
        site.access_key = demanded.storage
        access.demand(app, demanded)

    @app.before_request
    async def refuse_banned() -> None:
        # A probe must not fail by it, and the stream says it in an event.
        if request.blueprint == "wire" or request.endpoint in _FOR_PROBES:
            return
        if reason := site.bans.of_address(client_ip()):
            abort(403, reason)

    if site.settings.auth_enabled:
        login.demand(app, site)

    @app.after_request
    async def add_headers(response: Response) -> Response:
        # A stream is no document, and its headers stay in memory as long as it is open. Nor are a page's files.
        for name, value in (_NO_SNIFFING if response.mimetype in _NO_DOCUMENTS else _HEADERS).items():
            response.headers.setdefault(name, value)
        if isinstance(request.routing_exception, RequestRedirect):
            # To the address with a slash at its end: not to the host that the client has named.
            where = urlsplit(request.routing_exception.new_url)
            response.headers["Location"] = where._replace(scheme="", netloc="").geturl()
        if id := scope()["state"].get("request"):
            response.headers["X-Request-ID"] = id
        for name, value in site.guard.cors(request.headers.get("Origin", "")).items():
            response.headers[name] = value
        return response

    return app


def _handle_errors(app: Quart, site: Site) -> None:
    async def page(status: int, title: str, message: str) -> Response:
        wanted = request.accept_mimetypes.best_match(["application/json", "text/html"])
        programs = site.settings.enable_api_only_mode or request.blueprint in _FOR_PROGRAMS
        if wanted == "application/json" or programs:
            response = jsonify(code=title.lower().replace(" ", "-"), message=message)
        else:
            response = Response(await render_template("error.html", title=title, message=message, status=status))
        response.status_code = status
        return response

    @app.errorhandler(HTTPException)
    async def no_such_answer(error: HTTPException) -> Response:
        if error.response is not None:  # a redirect to the address with a slash at its end
            return error.response  # type: ignore[return-value]
        if error.code == 404:
            return await page(404, "Not found", "There is no such page here.")
        response = await page(error.code or 500, error.name, error.description or "")
        for name, value in error.get_headers():
            if name.lower() in ("allow", "www-authenticate"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    async def internal_error(error: Exception) -> Response:
        error_id = secrets.token_hex(4)
        site.binder.log.error("internal error", error_id=error_id, path=request.path, exc_info=error)
        message = f"Internal error, id {error_id}: the operator finds the reason in the log."
        if request.blueprint == "wire":
            return wire.alone(failed(message, code="internal-error", status_code=500, error_id=error_id))
        return await page(500, "Internal error", message)
