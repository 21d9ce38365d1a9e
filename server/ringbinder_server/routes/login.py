"""Logging in, with `BinderHub.auth_enabled`: plugins say who somebody is; no one else is answered.

Routes that are open, and what a client without a login gets from `/build`: as BinderHub (protocol reference, 1.1, 1.3).
"""

from __future__ import annotations

import re
from typing import Final

from quart import Blueprint, Quart, Response, abort, g, redirect, render_template, request
from ringbinder.app import Ringbinder
from ringbinder.errors import ConfigError, Refused, RingbinderError, TransientError
from ringbinder.model import Redirect, User
from ringbinder.secret import redact
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response as Answer

from ..request_context import Site
from . import build as wire

BACK: Final = "oauth_callback"
"""Path, below `base_url`, to which browsers come back from a login."""

_OPEN: Final = frozenset(
    {
        "api.health", "api.versions", "legacy.providers", "legacy.config", "launches.openapi",
        "pages.static", "pages.badge", "pages.badge_logo", "pages.favicon", "pages.extra_static", "login.back",
    }
)  # fmt: skip
_FOR_BROWSERS: Final = frozenset({"pages", "redirects"})
_NEEDED: Final = (
    "You are not logged in here, or not any more: open a page of this server to log in. Programs send a user's "
    "token in the header `Authorization`, as `Bearer TOKEN`."
)
_LOCAL: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def demand(app: Quart, site: Site) -> None:
    """Makes `app` answer only to who is known; sends browsers to where they log in.

    Raises ConfigError if no plugin could say who somebody is.
    """
    _check(site.binder)

    @app.before_request
    async def who_asks() -> Response | Answer | None:
        # What has no endpoint does not exist for any client.
        if request.method == "OPTIONS" or request.endpoint in {None, *_OPEN} or request.blueprint == "robots":
            return None
        if request.endpoint == "api.metrics" and "Authorization" not in request.headers:
            return None  # without the names of repositories
        found, status, why = None, 401, _NEEDED
        try:
            found = await site.binder.authenticate(_headers(), _target())
        except RingbinderError as error:
            status, why = _failure(error)
        if isinstance(found, User):
            g.user = found
            return None
        if isinstance(found, Redirect) and _target():
            return _sent(site, found, found.url)
        if request.blueprint == "wire":
            return wire.refused(why, 403 if status == 401 else status)
        if status == 401:
            raise Unauthorized(why, www_authenticate=WWWAuthenticate("bearer"))
        return abort(status, why)


def routes(site: Site) -> Blueprint:
    """The blueprint with the way back from a login, and with the way out."""
    blueprint = Blueprint("login", __name__)

    @blueprint.get(f"/{BACK}")
    async def back() -> Answer:
        try:
            found = await site.binder.log_in(_headers(), request.args.to_dict())
        except RingbinderError as error:
            abort(*_failure(error))
        if found is None:
            abort(404)
        # No one is sent elsewhere by an address that somebody else wrote.
        local = _LOCAL.fullmatch(found.url) is not None
        return _sent(site, found, found.url if local else site.settings.base_url)

    @blueprint.post("/logout")
    async def out() -> Response:
        if refusal := site.guard.refusal(site.asker()):
            abort(403, refusal)
        try:
            found = await site.binder.log_out(_headers())
        except RingbinderError as error:
            abort(*_failure(error))
        if found is None:
            abort(404)
        g.user = None
        answer = Response(await render_template("logged_out.html", url=found.url))
        if found.url:
            # No redirect: what a form is answered with may lead browsers no further than the pages' policy says.
            answer.headers["Refresh"] = f"0; url={found.url}"
        _hand_out(site, found, answer)
        return answer

    return blueprint


def _check(binder: Ringbinder) -> None:
    if not binder.plugins.hooks.answered("authenticate"):
        message = "no active plugin can say who somebody is: the launcher jupyterhub can, or a plugin of your own"
        raise ConfigError([f"BinderHub.auth_enabled: {message} with the hook authenticate"])
    if binder.config.settings.access_token is not None:
        message = "people log in, so that there is no one token for all: leave one of the two out"
        raise ConfigError([f"Ringbinder.access_token and BinderHub.auth_enabled: {message}"])


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _target() -> str:
    """Where a browser wants to go; empty if the request is of a program or of a page's script."""
    if request.method != "GET" or request.blueprint not in _FOR_BROWSERS:
        return ""
    query = request.query_string.decode("ascii", "replace")
    return request.path + (f"?{query}" if query else "")


def _failure(error: RingbinderError) -> tuple[int, str]:
    """Status and words of an error that is no bug. Raises one that is."""
    match error:
        case Refused():
            return error.status, redact(error.reason)
        case TransientError():
            return 503, redact(str(error))
    raise error


def _sent(site: Site, found: Redirect, url: str) -> Answer:
    answer = redirect(url, 302)
    _hand_out(site, found, answer)
    return answer


def _hand_out(site: Site, found: Redirect, answer: Answer | Response) -> None:
    answer.headers["Cache-Control"] = "no-store"
    for name, value in found.cookies.items():
        answer.set_cookie(
            name, value or "", max_age=0 if value is None else None,
            path=site.settings.base_url, httponly=True, samesite="Lax", secure=site.by_https,
        )  # fmt: skip
