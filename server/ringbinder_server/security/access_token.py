"""The token that a server demands: programs send it, browsers get a cookie and a key for it.

A cookie goes to every port of its host, and a notebook owns every path of its port. Its page can open
``http://127.0.0.1:PORT/``, which is our site, and reload itself there: then the notebook's server sees our cookie,
whichever SameSite it has. So the cookie shows pages that hold nothing secret, and no more. What launches, or gives a
notebook's token, demands the key in a header or a form: our pages keep it in ``localStorage``, which belongs to
scheme, host and port, so that no page of another port reads it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from typing import Final, Literal
from urllib.parse import unquote_plus

from attrs import Factory, field, frozen
from quart import Quart, Response, abort, g, redirect, render_template, request
from ringbinder.app import Ringbinder
from ringbinder.errors import ConfigError
from ringbinder.runtime.clock import Clock
from ringbinder.secret import Secret
from werkzeug.wrappers import Response as Redirect

from .origins import split_host

_PARAMETER: Final = "token"
_SECONDS: Final = 12 * 3600
_HEADER: Final = re.compile(r"(?:bearer|token)\s+(?P<token>\S+)\s*", re.IGNORECASE)
_PASS: Final = re.compile(r"(?P<expires>[0-9]{1,12})\.(?P<mac>[0-9a-f]{64})")
_NEEDED: Final = (
    "This server demands its token. Open the address that it printed in the terminal when it started, or the one that "
    "its operator gives: it ends in ?token=... and lets this browser in for 12 hours. Then open this page again. "
    "Programs send it in the header `Authorization`, as `Bearer TOKEN`."
)
# Probes, and what shows a badge on a page elsewhere: these tell nothing and start nothing.
_OPEN: Final = frozenset(
    {"api.health", "api.versions", "pages.static", "pages.badge", "pages.badge_logo", "pages.favicon"}
)
_PAGES: Final = frozenset({"pages", "redirects"})
_LOCALHOST: Final = frozenset({"localhost", "ip6-localhost"})


@frozen
class Access:
    """Judges the token, and makes and judges what a browser gets for it."""

    token: Secret
    clock: Clock
    base_url: str
    _key: bytes = field(init=False, repr=False, default=Factory(lambda self: self._make_key(), takes_self=True))

    def _make_key(self) -> bytes:
        # Who gets to see a pass, as notebooks do, must not find a short token by trying.
        return hashlib.scrypt(self.token.reveal().encode(), salt=b"ringbinder-access", n=2**14, r=8, p=1)

    @property
    def storage(self) -> str:
        """The name under which pages keep the key."""
        return f"ringbinder-access {self.base_url}"

    @property
    def cookie(self) -> str:
        """The cookie's name: servers on other ports of this host have cookies of their own."""
        _, port = split_host(request.headers.get("Host", ""))
        return f"ringbinder-access{port.replace(':', '-')}"

    def new_pass(self, kind: Literal["cookie", "key"]) -> str:
        """A pass of `kind`; it says itself until when it is valid."""
        expires = str(int(self.clock.time()) + _SECONDS)
        return f"{expires}.{self._mac(kind, expires)}"

    def is_pass(self, kind: Literal["cookie", "key"], text: str) -> bool:
        """Whether `text` is a pass of `kind` for this token, and not expired."""
        match = _PASS.fullmatch(text)
        return (
            match is not None
            and _same(match["mac"], self._mac(kind, match["expires"]))
            and int(match["expires"]) > self.clock.time()
        )

    def is_token(self, text: str) -> bool:
        """Whether `text` is the token itself."""
        return _same(text, self.token.reveal())

    def _mac(self, kind: str, expires: str) -> str:
        return hmac.new(self._key, f"{kind} {expires}".encode(), hashlib.sha256).hexdigest()


def is_own_machine(binder: Ringbinder) -> bool:
    """Whether only a person's own machine is served: code runs on it, and no other machine reaches the server."""
    return not binder.services.public and binder.consents().asks


def token_of(binder: Ringbinder, *, demanded: bool) -> Secret | None:
    """A token for a server that `demanded` one: random, where code runs on a person's own machine and none is set.

    Raises ConfigError if the configuration sets one that is not demanded.
    """
    if (token := binder.config.settings.access_token) is not None:
        if not demanded:
            raise ConfigError(["Ringbinder.access_token is set, and --no-token is given: leave one of them out"])
        return token
    return Secret(secrets.token_urlsafe(32)) if demanded and is_own_machine(binder) else None


def demand(app: Quart, access: Access) -> None:
    """Makes `app` refuse all requests without the token, or without what a browser got for it."""

    @app.before_request
    async def only_with_token() -> Response | None:
        if request.method == "OPTIONS" or request.endpoint in _OPEN:
            return None
        is_page = request.method in ("GET", "HEAD") and (
            request.blueprint in _PAGES or request.endpoint in ("notebooks.all", "builds.log")
        )
        if access.is_token(request.args.get(_PARAMETER, "")):
            return await _let_in(access) if is_page and request.blueprint != "builds" else None
        header = _HEADER.fullmatch(request.headers.get("Authorization", ""))
        sent = header["token"] if header else ""
        if not sent and request.method == "POST" and request.blueprint == "notebooks":
            sent = (await request.form).get(_PARAMETER, "")
        if access.is_token(sent) or access.is_pass("key", sent):
            return None
        # There may be several: a notebook on another port of this host sets cookies for ours, with any path.
        cookies = request.cookies.getlist(access.cookie)
        is_nothing = request.url_rule is None  # no route or none for this method: 404 or 405 follows
        if not (is_page or is_nothing) or not any(access.is_pass("cookie", cookie) for cookie in cookies):
            abort(401, _NEEDED)
        g.by_cookie = True
        return None


async def _let_in(access: Access) -> Response:
    """The page that keeps the key and goes on; the address with the token does not stay in the history."""
    # The rest of the query stays as it was sent.
    parts = request.query_string.decode("ascii", "replace").split("&")
    query = "&".join(part for part in parts if unquote_plus(part.partition("=")[0]) != _PARAMETER)
    goal = request.path + (f"?{query}" if query else "")
    page = await render_template("enter.html", goal=goal, storage=access.storage, key=access.new_pass("key"))
    response = Response(page, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    response.set_cookie(
        access.cookie, access.new_pass("cookie"), max_age=_SECONDS, path=access.base_url,
        httponly=True, samesite="Lax", secure=request.scheme == "https",
    )  # fmt: skip
    return response


def leave_localhost(app: Quart, bound: str) -> None:
    """Makes `app` redirect pages from ``localhost``, which is the notebooks', to the address `bound`.

    To be called before `demand`: no cookie is read or set under that name.
    """
    try:
        own = ipaddress.ip_address(bound)
        name = f"[{own}]" if own.version == 6 else str(own)
    except ValueError:
        name = "127.0.0.1"

    @app.before_request
    async def to_address() -> Redirect | None:
        host, port = split_host(request.headers.get("Host", ""))
        if host not in _LOCALHOST or request.method not in ("GET", "HEAD") or request.endpoint in _OPEN:
            return None
        if request.blueprint not in (*_PAGES, "notebooks"):
            return None
        query = request.query_string.decode("ascii", "replace")
        goal = f"{request.scheme}://{name}{port}{request.path}" + (f"?{query}" if query else "")
        return redirect(goal, 307)


def check_public(binder: Ringbinder) -> None:
    """Raises ConfigError if others could launch anything: a token, a login or an allow-list is needed."""
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
    return hmac.compare_digest(given.encode(errors="surrogatepass"), wanted.encode())
