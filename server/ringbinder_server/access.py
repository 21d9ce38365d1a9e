"""The access token of a server that others can reach: who has it may use the server, nobody else."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final
from urllib.parse import parse_qsl, urlencode

from quart import Quart, Response, abort, redirect, request
from ringbinder.app import Ringbinder
from ringbinder.errors import ConfigError
from ringbinder.secret import Secret
from werkzeug.wrappers import Response as Redirect

_PARAMETER: Final = "access_token"
_COOKIE: Final = "ringbinder-access"
_HEADER: Final = re.compile(r"(?:bearer|token)\s+(?P<token>\S+)\s*", re.IGNORECASE)
_NEEDED: Final = (
    "This server needs its access token: open the address that its operator gives, "
    "which ends in ?access_token=..., or send the header `Authorization: Bearer ...`."
)
# Probes, and what shows a badge on a page elsewhere: these tell nothing and start nothing.
_OPEN: Final = frozenset(
    {"api.health", "api.versions", "pages.static", "pages.badge", "pages.badge_logo", "pages.favicon"}
)


def demand(app: Quart, token: Secret, base_url: str) -> None:
    """Makes `app` answer only to who bears `token`: in a header, in the address, or in the cookie that this gives."""
    plain = token.reveal()
    # Who sees a browser's cookies does not thereby learn what opens the API.
    cookie = hmac.new(plain.encode(), _COOKIE.encode(), hashlib.sha256).hexdigest()

    @app.before_request
    async def only_with_token() -> Response | Redirect | None:
        if request.method == "OPTIONS" or request.endpoint in _OPEN:
            return None
        header = _HEADER.fullmatch(request.headers.get("Authorization", ""))
        if _same(request.args.get(_PARAMETER, ""), plain):
            return _with_cookie(cookie, base_url)
        by_header = header is not None and _same(header["token"], plain)
        if not by_header and not _same(request.cookies.get(_COOKIE, ""), cookie):
            abort(401, _NEEDED)
        return None


def _with_cookie(cookie: str, base_url: str) -> Redirect | None:
    if request.blueprint != "pages" or request.method != "GET":
        return None
    # The token must not stay in the address, which is bookmarked, shared and logged.
    pairs = parse_qsl(request.query_string.decode("ascii", "replace"), keep_blank_values=True)
    query = urlencode([pair for pair in pairs if pair[0] != _PARAMETER])
    answer = redirect(request.path + (f"?{query}" if query else ""), 303)
    secure = request.scheme == "https"
    answer.set_cookie(_COOKIE, cookie, path=base_url, httponly=True, samesite="Lax", secure=secure)
    return answer


def check_public(binder: Ringbinder) -> None:
    """Raises ConfigError if others could launch whatever they like: a token, a login or an allow-list is needed."""
    if binder.config.settings.access_token is not None or binder.config.binderhub.auth_enabled:
        return
    loose = [name for name in binder.providers() if not binder.plugins.spec_options(name).allowed_specs]
    if loose:
        raise ConfigError(
            [
                "--public lets everybody who reaches this machine run code on it. Set Ringbinder.access_token, let "
                "people log in (BinderHub.auth_enabled), or limit what can be launched with "
                f"RepoProvider.allowed_specs; without such a limit are the providers {', '.join(loose)} "
                "(Ringbinder.disabled_plugins turns one off)."
            ]
        )


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
