"""What `ringbinder doctor` finds out about a JupyterHub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from ringbinder import Finding, RingbinderError

from ._api import HubApi
from ._login import exchange
from ._options import HubOptions

_OLDEST: Final = 4
_NEEDED: Final = {
    True: ("read:users", "list:users", "read:servers", "servers", "delete:servers"),
    False: ("admin:users", "list:users", "read:servers", "servers", "delete:servers"),
}
"""Scopes by whether people log in at the hub. Source: what JupyterHub's API handlers ask for; to start a server,
version 5 asks for `servers`, and version 6 for a part of it."""
_ROLE: Final = (
    'give the service a role at the hub: c.JupyterHub.load_roles = [{"name": "binder", '
    '"services": ["binder"], "scopes": ["servers", "admin:users"]}]'
)

_SERVICE: Final = (
    "Launcher.oauth_client_id and BinderHub.hub_api_token must be oauth_client_id and api_token of one service of the "
    "hub (docs/how-to/log-in-at-a-hub.md)"
)


async def examine(config: HubOptions, api: HubApi) -> Sequence[Finding]:
    """Is it set, does the hub answer, does it know our token, and may we do what we do."""
    if config.missing:
        return [Finding("error", config.missing, "see docs/reference/launchers.md")]
    try:
        about = await api.ask("GET", "", tries=1)
        if not about.ok:
            raise about.refusal("tell its version")
        version = about.shaped({"version": str}, "tell its version")["version"]
    except RingbinderError as error:
        fix = f"check BinderHub.hub_url and hub_url_local, and that the hub runs (asked: {config.api_url})"
        return [Finding("error", str(error), fix)]
    found = [_version(version, config.api_url)]
    reply = await api.ask("GET", "user")
    if not reply.ok:
        fix = "BinderHub.hub_api_token must be the api_token of a service of this hub"
        return [*found, Finding("error", f"JupyterHub does not know our token: {reply.message}", fix)]
    try:
        us = reply.shaped({"scopes?": [str], "kind?": str, "name?": str}, "tell who we are")
    except RingbinderError as error:
        return [*found, Finding("error", str(error), "check BinderHub.hub_url and hub_url_local")]
    scopes: set[str] = set(us.get("scopes") or ())
    lacking = [scope for scope in _NEEDED[config.auth_enabled] if scope not in scopes]
    who = f"{us.get('kind') or 'service'} {us.get('name') or ''!r}"
    if lacking:
        message = f"at JupyterHub we are the {who}, whose token lacks the scopes {', '.join(lacking)}"
        return [*found, Finding("error", message, _ROLE)]
    found.append(Finding("ok", f"at JupyterHub we are the {who}, with the scopes that launches need"))
    return [*found, *await _login(config, api)] if config.auth_enabled else found


async def _login(config: HubOptions, api: HubApi) -> Sequence[Finding]:
    """Can people log in: is it set, is our OAuth client the hub's, and do browsers come back to us."""
    if why := config.no_login:
        return [Finding("error", f"no one can log in: {why}", _SERVICE)]
    found: list[Finding] = []
    back = f"{config.service_prefix}oauth_callback"
    if urlsplit(config.callback).path != back:
        message = f"the hub is to send browsers back to {config.callback}, whose path is not {back}"
        found.append(
            Finding("error", message, "Launcher.oauth_redirect_uri, as at the hub, must end in BinderHub.base_url and "
                    "oauth_callback")
        )  # fmt: skip
    reply = await api.form("oauth2/token", exchange(config, "no-code-of-anybody"))
    known = reply.status == 400 and isinstance(reply.body, dict) and reply.body.get("error") == "invalid_grant"
    if not known:
        message = f"JupyterHub does not take us for its OAuth client {config.oauth_client_id!r}: {reply.message}"
        found.append(Finding("error", message, _SERVICE))
    if not found:
        scopes = ", ".join(sorted(config.needed_scopes))
        message = f"people log in at JupyterHub (client {config.oauth_client_id}); a role must give them {scopes}"
        found.append(Finding("ok", message))
    return found


def _version(version: str, url: str) -> Finding:
    message = f"JupyterHub {version} answers ({url})"
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST:
        return Finding("warning", message, "use JupyterHub 5 or 6, with which Ringbinder is tested")
    return Finding("ok", message)
