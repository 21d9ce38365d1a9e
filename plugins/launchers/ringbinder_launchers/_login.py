"""Who somebody is at the hub: by a token in a header, or by a login through the hub's OAuth.

Source: JupyterHub's OAuth provider and the API's `user`, versions 5 and 6.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlencode

from attrs import Factory, define, field, frozen
from ringbinder import Redirect, Refused, RingbinderError, Secret, TransientError, User, redact
from ringbinder.concurrency import Cache

from ._api import HubApi
from ._options import HubOptions

_SESSION: Final = "ringbinder-session"
_BROWSER: Final = "ringbinder-login"
_ALGORITHM: Final = "HS256"
_OWNER: Final = {"name": str, "kind?": str, "scopes?": [str], "groups?": [str]}
_LOGIN_SECONDS: Final = 900
_UNKNOWN_SECONDS: Final = 10.0
_MOST: Final = 10_000
_TRIES: Final = 2
_ANSWER_SECONDS: Final = 10.0
_HEADER: Final = re.compile(r"(?:bearer|token)\s+(?P<token>[\x21-\x7e]+)\s*", re.IGNORECASE)
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@frozen
class _Known:
    """What the hub says of a token: no one's, somebody's who may use this service, or somebody's who may not."""

    user: User | None = None
    lacking: str = ""


@define(eq=False)
class HubLogin:
    """Knows people by what the hub says of their tokens, which is believed for `HubOptions.user_memory`.

    The cookie of who has logged in holds the token that the hub has given for it, signed: what was made up costs the
    hub no question. Nothing is kept here, so that every replica knows who has logged in at another.
    """

    config: HubOptions
    api: HubApi
    _seen: Cache[bytes, _Known] = field(
        init=False, default=Factory(lambda self: Cache(_MOST, self.api.clock.monotonic), takes_self=True)
    )

    async def who(self, headers: Mapping[str, str], target: str) -> User | Redirect | None:
        """See the hook `authenticate`."""
        if why := self.config.no_login:
            raise TransientError(f"No one can log in here yet: {why}")
        given = headers.get("authorization")
        if given is not None:
            header = _HEADER.fullmatch(given)
            return await self._user(header["token"]) if header else None
        cookies = _cookies(headers)
        session = self._read(cookies.get(_SESSION, ""), _SESSION)
        if session and (user := await self._user(session["token"])):
            return user
        return self._to_login(target, cookies.get(_BROWSER, "")) if target else None

    async def back(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Redirect:
        """See the hook `log_in`."""
        browser = _cookies(headers).get(_BROWSER, "")
        state = self._read(query.get("state", ""), _BROWSER)
        if not state or not hmac.compare_digest(state["browser"], _digest(browser)):
            raise Refused(
                "This login was not begun in this browser, or took too long. Open the link again; cookies must "
                "be allowed for this site.",
                status=400,
            )
        if not (code := query.get("code")):
            reason = query.get("error_description") or query.get("error") or "it gives no reason"
            raise Refused(f"JupyterHub did not log you in: {redact(' '.join(reason[:200].split()))}", status=403)
        token = await self._token(code)
        if await self._user(token) is None:
            raise Refused("JupyterHub does not know the login that it has just given. Try again.", status=403)
        return Redirect(state["target"], {_SESSION: self._signed(_SESSION, token=token)})

    def forget(self, headers: Mapping[str, str]) -> Redirect | None:
        """See the hook `log_out`. The hub's own logout takes back the token that it has given for this login."""
        session = self._read(_cookies(headers).get(_SESSION, ""), _SESSION)
        if session is None:
            return None
        self._seen.drop(_key_of(session["token"]))
        return Redirect(f"{self.config.hub_url}hub/logout", {_SESSION: None})

    def _to_login(self, target: str, browser: str) -> Redirect:
        # One for all of a browser's windows: people open several links at once.
        browser = browser if _NONCE.fullmatch(browser) else secrets.token_urlsafe(32)
        until = int(self.api.clock.time()) + _LOGIN_SECONDS
        query = {
            "client_id": self.config.oauth_client_id,
            "redirect_uri": self.config.callback,
            "response_type": "code",
            "state": self._signed(_BROWSER, browser=_digest(browser), target=target, until=until),
        }
        return Redirect(f"{self.config.hub_url}hub/api/oauth2/authorize?{urlencode(query)}", {_BROWSER: browser})

    async def _token(self, code: str) -> str:
        """What the hub gives for the code that a browser has brought."""
        reply = await self.api.form("oauth2/token", exchange(self.config, code))
        token = reply.body.get("access_token") if isinstance(reply.body, dict) else None
        if reply.ok and isinstance(token, str):
            return token
        raise Refused(f"JupyterHub did not log you in: {reply.message}. Open the link again.", status=403)

    async def _user(self, token: str) -> User | None:
        """Whose token it is; None if it is no one's. Raises Refused if they may not use this service."""
        key = _key_of(token)
        known = await self._seen.load(
            key,
            lambda: self._ask(Secret(token, of_client=True)),
            lambda known: self.config.user_memory if known != _Known() else _UNKNOWN_SECONDS,
        )
        if known.lacking:
            raise Refused(known.lacking, status=403)
        return known.user

    async def _ask(self, token: Secret) -> _Known:
        headers = {"Authorization": f"token {token.reveal()}"}
        reply = await self.api.ask("GET", "user", headers=headers, tries=_TRIES, seconds=_ANSWER_SECONDS)
        known = _Known()
        if reply.ok:
            known = self._judged(reply.shaped(_OWNER, "say whose a token is"))
        elif reply.status not in (401, 403, 404):
            raise _trouble(reply.refusal("say whose a token is"))
        return known

    def _judged(self, model: Mapping[str, Any]) -> _Known:
        kind, name = model.get("kind") or "user", model["name"]
        if not _has_one(model.get("scopes") or (), self.config.needed_scopes):
            return _Known(
                lacking=f"At JupyterHub, the {kind} {name} may not use this service, or this token is not for it: it "
                f"has none of the scopes {', '.join(sorted(self.config.needed_scopes))}."
            )
        return _Known(User(name, frozenset(model.get("groups") or ()), service=kind == "service"))

    def _signed(self, use: str, **claims: Any) -> str:
        import jwt

        return jwt.encode({"use": use, **claims}, self._key, algorithm=_ALGORITHM)

    def _read(self, text: str, use: str) -> dict[str, Any] | None:
        """The claims of what `_signed` has made for this `use`, if it is not too old."""
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(text, self._key, algorithms=[_ALGORITHM])
        except jwt.InvalidTokenError:
            return None
        good = claims.get("use") == use and claims.get("until", float("inf")) > self.api.clock.time()
        return claims if good else None

    @property
    def _key(self) -> bytes:
        token = self.config.hub_api_token.reveal().encode()
        return hmac.new(token, b"ringbinder: who has logged in", hashlib.sha256).digest()


def exchange(config: HubOptions, code: str) -> dict[str, str]:
    """The form that asks the hub's OAuth provider for the token that `code` stands for."""
    return {
        "client_id": config.oauth_client_id,
        "client_secret": config.hub_api_token.reveal(),
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": config.callback,
    }


def _trouble(error: RingbinderError) -> RingbinderError:
    return error if isinstance(error, TransientError) else TransientError(str(error))


def _has_one(scopes: Collection[str], needed: Collection[str]) -> bool:
    """Whether one of `needed` is there, itself or for all (``access:services`` for ``access:services!service=x``)."""
    return any(scope in scopes or scope.partition("!")[0] in scopes for scope in needed)


def _key_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    found: SimpleCookie = SimpleCookie()
    try:
        found.load(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}
