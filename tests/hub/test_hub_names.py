"""Names of users and servers in the paths of the hub, whatever they are; and what a browser brings to a login."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import attrs
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import Refused
from ringbinder.model import Redirect
from ringbinder.plugins.context import Context
from ringbinder.runtime.clock import SystemClock
from ringbinder.secret import Secret
from ringbinder_launchers._api import HubApi
from ringbinder_launchers._login import HubLogin
from ringbinder_launchers._names import is_unique, unique_name
from ringbinder_launchers._options import HubOptions
from ringbinder_launchers._places import Place

HUB = "http://127.0.0.1:9/some/"

# What JupyterHub accepts (auth.py, `validate_username`): no slash, no space at an end, not dots alone.
USERS = st.text(min_size=1).filter(
    lambda name: "/" not in name and name == name.strip() and set(unquote(name)) != {"."} and _encodes(name)
)
SERVERS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(user=USERS, server=SERVERS | st.just(""))
def test_a_name_stays_one_step_of_the_path(user: str, server: str) -> None:
    place = Place(user, server, temporary=False)
    steps = {
        place.user_path: ["users", user],
        place.server_path: ["users", user, "servers", server],
        place.progress_path: ["users", user, *(["servers", server] if server else ["server"]), "progress"],
        place.path: ["user", user, *([server] if server else []), ""],
    }
    for path, wanted in steps.items():
        raw = httpx.URL(HUB + path).raw_path.decode("ascii")
        assert "?" not in raw
        assert [unquote(step) for step in raw.removeprefix("/some/").split("/")] == wanted
    assert place.id.partition("/") == (user, "/", server)


@given(url=st.text(), session=st.text(max_size=5))
def test_a_temporary_user_is_known_by_the_name(url: str, session: str) -> None:
    try:
        name = unique_name(f"https://host.example/{url}", session)
    except (ValueError, UnicodeEncodeError):
        return
    assert is_unique(name)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)


@pytest.mark.parametrize("name", ["ada", "ada-lovelace", "ada@uni.example", "Binder-abcdefghijkl", ""])
def test_a_person_is_not_taken_for_one(name: str) -> None:
    assert not is_unique(name)


def login(context: Context, **options: object) -> HubLogin:
    config = HubOptions(hub_url=HUB, hub_api_token=Secret("token-of-the-service-4716"), oauth_client_id="service-x")
    config = attrs.evolve(config, auth_enabled=True, **options)  # type: ignore[arg-type]
    return HubLogin(config, HubApi(context.http, context.clock, config.api_url, config.hub_api_token, 1, 0.0))


async def begun(made: HubLogin, target: str, cookie: str = "") -> tuple[httpx.URL, str]:
    found = await made.who({"cookie": cookie} if cookie else {}, target)
    assert isinstance(found, Redirect)
    (value,) = found.cookies.values()
    return httpx.URL(found.url), f"ringbinder-login={value}"


async def test_a_login_ends_only_where_it_began(context: Context, tmp_path: Path) -> None:
    made = login(context)
    url, mine = await begun(made, "/v2/a")
    assert url.copy_with(query=None) == f"{HUB}hub/api/oauth2/authorize"
    assert url.params["redirect_uri"] == "/oauth_callback"
    again, same = await begun(made, "/v2/b", mine)
    assert same == mine
    assert again.params["state"] != url.params["state"]
    _, foreign = await begun(made, "/v2/a")
    state, stranger = url.params["state"], login(context, hub_api_token=Secret("token-of-another-hub-4717"))
    for headers, query in (
        ({"cookie": foreign}, {"state": state, "code": "x"}),
        ({}, {"state": state, "code": "x"}),
        ({"cookie": mine}, {"state": state[:-2], "code": "x"}),
        ({"cookie": mine}, {"code": "x"}),
        ({"cookie": mine}, {"state": (await begun(stranger, "/", mine))[0].params["state"], "code": "x"}),
        ({"cookie": 'ringbinder-login="\\777'}, {"state": state, "code": "x"}),
    ):
        with pytest.raises(Refused, match="not begun in this browser"):
            await made.back(headers, query)
    with pytest.raises(Refused, match="did not log you in: access_denied"):
        await made.back({"cookie": mine}, {"state": state, "error": "access_denied"})


@given(text=st.text())
def test_what_was_made_up_is_nobodys(text: str) -> None:
    secret = Secret("token-of-the-service-4716")
    made = HubLogin(HubOptions(hub_api_token=secret), HubApi(None, SystemClock(), "", secret, 1, 0.0))  # type: ignore[arg-type]
    assert made._read(text, "ringbinder-session") is None


def test_where_the_hub_sends_browsers_back_to() -> None:
    assert HubOptions(service_prefix="/services/binder").callback == "/services/binder/oauth_callback"
    assert HubOptions(oauth_redirect_uri="https://b.example/cb").callback == "https://b.example/cb"
    assert HubOptions(service_name="images").needed_scopes == {"access:services!service=images"}
    assert HubOptions(access_scopes=("a", "b")).needed_scopes == {"a", "b"}
