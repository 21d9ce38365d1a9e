"""Where people log in: what the server does with what a plugin says of them."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from ringbinder.config.loading import load
from ringbinder.errors import ConfigError, Refused, TransientError
from ringbinder.model import Redirect, User
from ringbinder_server.security.origins import Guard

if TYPE_CHECKING:
    from tests.server.conftest import Serve

SETS = {"BinderHub.auth_enabled": "true"}
LINK = "build/fake/owner/name/main"
ADA = {"Authorization": "Bearer ada"}
COOKIE = {"Cookie": "desk=ada"}


class Desk:
    """Believes everybody: a header or a cookie says who they are."""

    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | Redirect | None:
        cookie = SimpleCookie(headers.get("cookie", "")).get("desk")
        name = headers.get("authorization", "").removeprefix("Bearer ") or (cookie.value if cookie else "")
        match name:
            case "refused":
                raise Refused("You may not.", status=403)
            case "down":
                raise TransientError("The desk is closed.")
            case "":
                return Redirect(f"https://desk.example/?to={quote(target)}", {"trip": "1", "old": None})
        return User(name)

    async def log_in(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Redirect | None:
        return Redirect(query["to"], {"desk": query["who"]}) if "to" in query else None

    async def log_out(self, headers: Mapping[str, str]) -> Redirect | None:
        if "authorization" in headers:
            return None
        return Redirect("https://desk.example/out?of=binder", {"desk": None})


async def test_without_somebody_who_knows_people_it_does_not_start(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="the hook authenticate"):
        async with serve(SETS):
            pass
    with pytest.raises(ConfigError, match="leave one of the two out"):
        async with serve(SETS | {"Ringbinder.access_token": "hunter2-hunter2"}, plugin=Desk()):
            pass


async def test_a_browser_is_sent_to_a_login_and_back(serve: Serve) -> None:
    async with serve(SETS | {"BinderHub.base_url": "/b/"}, plugin=Desk()) as live:
        sent = await live.client.get(f"{live.address}v2/fake/a%2Fb/c?urlpath=lab%3Fx")
        assert sent.status_code == 302
        assert sent.headers["location"] == f"https://desk.example/?to={quote('/b/v2/fake/a%2Fb/c?urlpath=lab%3Fx')}"
        assert sent.headers["cache-control"] == "no-store"
        trip, old = sorted(sent.headers.get_list("set-cookie"), reverse=True)
        assert set(trip.split("; ")) == {"trip=1", "HttpOnly", "Path=/b/", "SameSite=Lax"}
        assert "Max-Age=0" in old
        for path in ("api/v1/link", "api/v1/images/fake/a/b/c"):
            asked = await live.client.get(live.address + path)
            assert (asked.status_code, asked.headers["www-authenticate"].lower()) == (401, "bearer")
        assert (await live.client.post(live.address + "api/v1/launches", json={})).status_code == 401
        for path in ("//evil.example/", "/b//evil.example", "/nowhere"):
            assert (await live.client.get(live.address.removesuffix("/b/") + path)).status_code == 404

        back = await live.client.get(f"{live.address}oauth_callback?who=ada-4711&to=/b/about%3Fa")
        assert (back.status_code, back.headers["location"]) == (302, "/b/about?a")
        assert back.headers["set-cookie"].startswith("desk=ada-4711; ")
        assert "ada-4711" not in str(live.logged)
        assert (await live.client.get(f"{live.address}oauth_callback")).status_code == 404


async def test_a_button_logs_out_here_and_where_the_login_was(serve: Serve) -> None:
    async with serve(SETS | {"BinderHub.base_url": "/b/"}, plugin=Desk()) as live:
        home = await live.client.get(live.address, headers=COOKIE)
        assert '<form method="post" action="/b/logout">' in home.text
        out, own = f"{live.address}logout", {"Origin": live.address.removesuffix("/b/")}
        answer = await live.client.post(out, headers=COOKIE | own)
        assert (answer.status_code, answer.headers["refresh"]) == (
            200,
            "0; url=https://desk.example/out?of=binder",
        )
        assert "You are logged out" in answer.text
        assert 'class="who"' not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["set-cookie"].startswith("desk=; ")
        assert {"Max-Age=0", "Path=/b/"} <= set(answer.headers["set-cookie"].split("; "))

        for headers, status in (
            (COOKIE | {"Origin": "https://evil.example"}, 403),
            (COOKIE | {"Sec-Fetch-Site": "cross-site"}, 403),
            (COOKIE, 403),
            ({}, 401),
            (ADA, 404),
        ):
            refused = await live.client.post(out, headers=headers)
            assert (refused.status_code, "set-cookie" in refused.headers) == (status, False), headers
        assert (await live.client.get(out, headers=COOKIE)).status_code == 405


class Porter:
    """Knows who comes, and lets nobody out."""

    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | None:
        return User("ada")


async def test_where_no_one_can_log_out_there_is_no_button(serve: Serve) -> None:
    async with serve(SETS, plugin=Porter()) as live:
        home = await live.client.get(live.address)
        assert '<span class="who"><bdi>ada</bdi></span>' in home.text
        assert "Log out" not in home.text


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "/a b", "javascript:1", "", "/\t/evil"],
)
async def test_a_login_sends_no_one_elsewhere(serve: Serve, to: str) -> None:
    async with serve(SETS, plugin=Desk()) as live:
        back = await live.client.get(f"{live.address}oauth_callback", params={"who": "ada", "to": to})
        assert back.headers["location"] == "/"


async def test_cookies_of_a_server_behind_tls_are_for_tls(serve: Serve) -> None:
    sets = SETS | {"BinderHub.badge_base_url": "https://binder.example"}
    async with serve(sets, plugin=Desk()) as live:
        sent = await live.client.get(live.address)
        assert all("Secure" in cookie for cookie in sent.headers.get_list("set-cookie"))


async def test_what_a_plugin_refuses_is_reported(serve: Serve) -> None:
    async with serve(SETS, plugin=Desk()) as live:
        for who, status, message in (
            ("refused", 403, "You may not."),
            ("down", 503, "The desk is closed."),
            ("", 403, "not logged in here"),
        ):
            headers = {"Authorization": f"Bearer {who}"} if who else {}
            (event,) = await live.events(LINK, headers)
            assert (event["phase"], event["status_code"]) == ("failed", status)
            assert message in event["message"]
            if who:
                page = await live.client.get(live.address, headers=headers)
                assert (page.status_code, message in page.text) == (status, True)
        assert not live.binder.sessions.known


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({}, False),
        ({"X-Xsrftoken": "page"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site", "X-Xsrftoken": "page"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://friend.example"}, False),
        ({"Origin": "null"}, False),
    ],
    ids=str,
)
async def test_another_page_starts_nothing_by_a_cookie(serve: Serve, headers: dict[str, str], good: bool) -> None:
    sets = SETS | {"BinderHub.cors_allow_origin": "*"}
    async with serve(sets, plugin=Desk(), gate=True) as live:
        reported = await live.events(LINK, COOKIE | headers)
        assert reported[-1]["phase"] == ("ready" if good else "failed"), reported
        assert [wish.user for wish in live.gate.requests] == [User("ada")] * good
        assert (await live.events(LINK, ADA | headers))[-1]["phase"] == "ready"
        answer = await live.client.get(live.address, headers=COOKIE | {"Origin": "https://friend.example"})
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_link_from_elsewhere_waits_for_a_click(serve: Serve) -> None:
    async with serve(SETS, plugin=Desk()) as live:
        for site, by_itself in (
            ("cross-site", False),
            ("same-site", False),
            ("", False),
            ("same-origin", True),
        ):
            headers = COOKIE | ({"Sec-Fetch-Site": site} if site else {})
            page = await live.client.get(f"{live.address}v2/fake/a/b/c", headers=headers)
            assert f'"by_itself": {str(by_itself).lower()}' in page.text
            assert "as <bdi>ada</bdi>?" in page.text
            assert '<span class="who"><bdi>ada</bdi></span>' in page.text


async def test_the_log_of_a_build_is_for_who_asked_for_it(serve: Serve) -> None:
    async with serve(SETS, plugin=Desk()) as live:
        made = await live.client.post(
            f"{live.address}api/v1/launches", json={"provider": "fake", "spec": "a/b/c"}, headers=ADA
        )
        state: dict[str, Any] = made.json()
        while not state["ended"]:
            state = (await live.client.get(live.address + state["url"][1:], headers=ADA)).json()
        log = live.address + state["log_url"][1:]
        await live.binder.runs.close("the test goes on when all logs are kept")
        assert not live.binder.runs.find(state["log_url"].split("/")[-2])
        assert "Fake build" in (await live.client.get(log, headers=ADA)).text
        assert (await live.client.get(log, headers={"Authorization": "Bearer bo"})).status_code == 404
        assert (await live.client.get(log)).status_code == 401


def test_a_service_of_a_hub_learns_where_it_is() -> None:
    environ = {
        "JUPYTERHUB_SERVICE_PREFIX": "/services/binder/",
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:10101/services/binder/",
    }
    sets = ["BinderHub.auth_enabled=true", "BinderHub.hub_url=https://hub.example/"]
    reported = load((), environ=environ, sets=sets)
    assert (reported.binderhub.base_url, reported.binderhub.port) == ("/services/binder/", 10101)
    assert "hub.example" in Guard.of(reported, "127.0.0.1").hosts
    given = load((), environ=environ, sets=[*sets, "BinderHub.base_url=/mine/"]).binderhub
    assert (given.base_url, given.port) == ("/mine/", 10101)
    # A notebook server has these variables too, and `ringbinder` in its terminal is no service.
    other = load((), environ=environ, sets=[]).binderhub
    assert (other.base_url, other.port) == ("/", 8585)
