"""Logging in at a real JupyterHub, and launches as who has logged in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from realparts.npm import Packages

from .conftest import VERSIONS, Make
from .login_hub import ACCESS, IMAGES_TOKEN, LoginHub, Serve, log_in, serve_for
from .real_hub import Installed, free_ports, hub
from .test_hub_trouble import until

LINK = "fake/owner/name/main"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_login_a_launch_and_a_logout(
    login_hubs: Callable[[str], LoginHub], tmp_path: Path, version: str
) -> None:
    at = login_hubs(version)
    async with serve_for(at, tmp_path)() as live, httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        address = f"{live.address}v2/{LINK}?urlpath=lab%2Ftree%2Fa.ipynb"
        first = await live.client.get(address)
        assert first.status_code == 302
        assert first.headers["location"].startswith(f"{at.hub.url}hub/api/oauth2/authorize?client_id=service-binder&")
        (cookie,) = first.headers.get_list("set-cookie")
        assert {"HttpOnly", "SameSite=Lax", "Path=/binder/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie

        page = await log_in(browser, address, "ada")
        assert (page.status_code, str(page.url)) == (200, address)
        assert "as <bdi>ada</bdi>?" in page.text
        session = next(cookie for cookie in browser.cookies.jar if cookie.name == "ringbinder-session")
        assert session.path == "/binder/"
        assert session.has_nonstandard_attr("HttpOnly")

        headers = {"Cookie": f"ringbinder-session={session.value}"}
        reported = await live.build(LINK, **headers)
        assert "pages of this server only" in reported[-1]["message"]
        reported = await live.build(LINK, **headers, **{"X-Xsrftoken": "page"})
        assert (reported[-1]["phase"], reported[-1]["token"]) == ("ready", ""), reported[-1]
        assert reported[-1]["url"] == f"{at.hub.url}user/ada/"
        assert list(at.hub.users()["ada"]) == [""]
        (server,) = await live.binder.servers.running()
        assert await live.binder.servers.stop(server)
        assert at.hub.users()["ada"] == {}

        out = await browser.post(f"{live.address}logout", headers={"Origin": f"http://127.0.0.1:{at.port}"})
        assert (out.status_code, out.headers["refresh"]) == (200, f"0; url={at.hub.url}hub/logout")
        assert "ringbinder-session" not in browser.cookies
        assert (await live.client.get(address, headers=headers)).status_code == 200, "the hub takes it back"
        await browser.get(f"{at.hub.url}hub/logout")
        gone = await live.client.get(address, headers=headers)
        assert gone.status_code == 302


async def test_who_is_answered_and_who_is_not(serve: Serve, at: LoginHub) -> None:
    async with serve() as live:
        for path in ("health", "versions", "metrics", "badge.svg", "favicon.ico", "api/repoproviders"):
            assert (await live.client.get(live.address + path)).status_code == 200, path
        good, weak = at.token("ada"), at.token("ada", "read:users:name!user")
        stranger = at.token("eve", "read:users:name!user")
        for path in ("", "about", "v2/" + LINK, "api/v1/link?text=x", "api/v1/images/" + LINK, "repo/a/b"):
            sent: tuple[tuple[dict[str, Any], int], ...] = (
                ({"Authorization": f"token {weak}"}, 403),
                ({"Authorization": f"Bearer {stranger}"}, 403),
                ({"Authorization": "Bearer nobody-knows-this-one"}, 401),
                ({"Authorization": b"Bearer \xff\xfe"}, 401),
                ({"Authorization": "Basic YTpi"}, 401),
            )
            for headers, status in sent:
                answer = await live.client.get(live.address + path, headers=headers)
                assert answer.status_code == status, (path, headers)
            answer = await live.client.get(live.address + path)
            assert answer.status_code == (401 if path.startswith("api") else 302), path
        reported = await live.client.get(f"{live.address}api/v1/link", headers={"Authorization": f"token {weak}"})
        assert ACCESS in reported.json()["message"]
        for token in ("", weak, "nobody-knows-this-one"):
            (event,) = await live.build(LINK, token)
            assert (event["phase"], event["status_code"]) == ("failed", 403)
        assert not live.binder.sessions.known
        for scheme in ("token", "bearer"):
            page = await live.client.get(live.address, headers={"Authorization": f"{scheme} {good}"})
            assert page.status_code == 200


async def test_two_users_see_nothing_of_each_other(serve: Serve, at: LoginHub) -> None:
    async with serve(sets={"FakeBuilder.build_seconds": "600"}) as live:
        ada, bo, cy = at.token("ada"), at.token("bo"), at.token("cy")

        async def ask(token: str) -> dict[str, Any]:
            wish = {"provider": "fake", "spec": "a/b/c"}
            made = await live.api("POST", "launches", token, json=wish, headers={"Idempotency-Key": "k"})
            fields: dict[str, Any] = made.json()
            async with asyncio.timeout(60):
                while not fields["log_url"]:
                    fields = (await live.api("GET", f"launches/{fields['id']}", token)).json()
            return fields

        mine, theirs = await ask(ada), await ask(bo)
        assert (await ask(ada))["id"] == mine["id"] != theirs["id"]
        assert mine["log_url"] == theirs["log_url"]
        log = mine["log_url"].partition("/api/v1/")[2]
        for token in (ada, bo):  # both wait for one build
            assert (await live.api("GET", log, token)).status_code == 200
        for method, path in (
            ("GET", f"launches/{mine['id']}"),
            ("GET", f"launches/{mine['id']}/events"),
            ("DELETE", f"launches/{mine['id']}"),
            ("GET", log),
        ):
            assert (await live.api(method, path, cy)).status_code == 404, path
        assert (await live.api("DELETE", f"launches/{mine['id']}", bo)).status_code == 404
        # Somebody else's id brings back nothing: it is as if there were none.
        fields = await live.build("fake/a/b/c", cy, **{"Last-Event-ID": f"{mine['id']}.0", "Accept": "text/html"})
        assert "Accept" in fields[-1]["message"]
        for token, launch in ((ada, mine), (bo, theirs)):
            assert (await live.api("DELETE", f"launches/{launch['id']}", token)).status_code == 202


async def test_a_cancelled_launch_takes_the_server_and_not_the_user(serve: Serve, at: LoginHub) -> None:
    async with serve("endless") as live:
        bo = at.token("bo")
        made = await live.api("POST", "launches", bo, json={"provider": "fake", "spec": "a/b/c"})
        await until(lambda: bool(at.hub.users()["bo"]))
        assert (await live.api("DELETE", f"launches/{made.json()['id']}", bo)).status_code == 202
        await until(lambda: at.hub.users().get("bo") == {})


async def test_one_server_each_and_it_is_not_ours_to_take(serve: Serve, at: LoginHub) -> None:
    async with serve() as live:
        cy = at.token("cy")
        status, _ = at.hub.ask("POST", "users/cy/server")
        assert status in (201, 202)
        reported = await live.build(LINK, cy)
        assert "User cy already has a running server." in reported[-1]["message"]
        assert reported[-1]["status_code"] == 409
        assert list(at.hub.users()["cy"]) == [""]
        assert at.hub.ask("DELETE", "users/cy/server")[0] in (202, 204)


async def test_what_fails_leaves_the_user_alone(serve: Serve, at: LoginHub) -> None:
    di = at.token("di")
    async with serve("unlucky") as live:
        reported = await live.build(LINK, di)
        assert "could not start the server" in reported[-1]["message"]
        assert [event["message"] for event in reported if "retrying" in event["message"]]
        assert at.hub.users()["di"] == {}


async def test_named_servers_and_their_limit(serve: Serve, at: LoginHub) -> None:
    sets = {"BinderHub.use_named_servers": "true", "Launcher.named_server_limit_per_user": "2"}
    async with serve(sets=sets) as live:
        ed = at.token("ed")
        urls = {(await live.build(LINK, ed))[-1].get("url") for _ in range(2)}
        servers = at.hub.users()["ed"]
        assert urls == {f"{at.hub.url}user/ed/{name}/" for name in servers}
        reported = (await live.build(LINK, ed))[-1]
        assert "User ed already has the maximum of 2 named servers." in reported["message"]
        assert reported["status_code"] == 409
        for server in await live.binder.servers.running():
            assert await live.binder.servers.stop(server)
        assert at.hub.users()["ed"] == {}


async def test_where_people_no_longer_log_in_they_stay(serve: Serve, at: LoginHub, make: Make) -> None:
    async with serve() as live:
        assert (await live.build(LINK, at.token("cy")))[-1]["phase"] == "ready"
        (server,) = await live.binder.servers.running()
    assert await make(at.hub.url).stop(server)
    await until(lambda: at.hub.users().get("cy") == {})


async def test_the_doctor_knows_what_keeps_people_out(at: LoginHub, make: Make) -> None:
    good = {
        "auth_enabled": True, "oauth_client_id": "service-binder", "service_prefix": "/binder/",
        "oauth_redirect_uri": f"{at.binder}oauth_callback",
    }  # fmt: skip
    assert [line.level for line in await make(at.hub.url, **good).doctor()] == ["ok", "ok", "ok"]
    for wrong, reported in (
        ({"oauth_client_id": ""}, "JUPYTERHUB_CLIENT_ID"),
        ({"oauth_client_id": "service-bindre"}, "does not take us for its OAuth client 'service-bindre'"),
        ({"oauth_redirect_uri": at.binder + "callback"}, "whose path is not /binder/oauth_callback"),
    ):
        *_, last = await make(at.hub.url, **(good | wrong)).doctor()
        assert (last.level, reported in last.message) == ("error", True), last
    without = make(at.hub.url, token=IMAGES_TOKEN, **good)
    assert "lacks the scopes" in (await without.doctor())[-1].message


async def test_programs_build_only(serve: Serve, at: LoginHub, packages: Packages) -> None:
    async with serve(sets={"BinderHub.enable_api_only_mode": "true"}) as live:
        ada = at.token("ada")
        # fancy-profiles bears the user's token, tljh-repo2docker a service's.
        for token, accept in ((ada, "text/event-stream"), (IMAGES_TOKEN, "*/*")):
            reported = await live.build(f"{LINK}?build_only=true", token, Accept=accept)
            assert reported[-1]["phase"] == "ready", reported[-1]
            assert "url" not in reported[-1]
            assert reported[-1]["imageName"].startswith("light/")
        (refused,) = await live.build(f"{LINK}?build_only=true")
        assert refused["status_code"] == 403
        events = await packages.binderhub_client(live.address, LINK, apiToken=ada, buildOnly=True)
        assert (events[-1]["phase"], events[-1]["imageName"]) == ("ready", reported[-1]["imageName"])
        (event,) = await packages.binderhub_client(live.address, LINK, apiToken="nobodys", buildOnly=True)
        assert (event["phase"], "not logged in here" in event["message"]) == ("failed", True)
        reported = await live.build(LINK, IMAGES_TOKEN)
        assert "images is a service" in reported[-1]["message"]
        assert "images" not in at.hub.users()
        assert (await live.client.get(live.address)).status_code == 404


MANAGED = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.load_roles = [{{"name": "user", "scopes": ["self", "access:services"]}}]
c.JupyterHub.services = [{{
    "name": "binder", "url": "http://127.0.0.1:{port}", "oauth_no_confirm": True,
    "command": [{command!r}, "serve", "--config", {file!r}, "--set", "BinderHub.hub_url=" + os.environ["HUB_URL"]],
}}]
"""
CONFIG = """
Ringbinder: {builder: fake, registry: fake, launcher: jupyterhub, extra_plugins: [fake]}
BinderHub: {auth_enabled: true}
"""


async def test_a_service_that_the_hub_starts_and_hands_on(
    installed: Callable[[str], Installed], tmp_path: Path
) -> None:
    (port,), file = free_ports(1), tmp_path / "ringbinder.yaml"
    file.write_text(CONFIG)
    command = str(Path(sys.executable).with_name("ringbinder"))
    config = MANAGED.format(port=port, command=command, file=str(file))
    with hub(installed(VERSIONS[0]), tmp_path / "hub", config) as made:
        address = f"{made.url}services/binder/v2/fake/a/b/c"

        async with httpx.AsyncClient(trust_env=False, timeout=60) as browser:

            def sent_to() -> str:
                return str(httpx.get(address, trust_env=False).headers.get("location"))

            await until(lambda: "/hub/api/oauth2/authorize" in sent_to())
            page = await log_in(browser, address, "ada")
            assert (page.status_code, str(page.url)) == (200, address), page.text
            assert "as <bdi>ada</bdi>?" in page.text
            paths = {cookie.path for cookie in browser.cookies.jar if cookie.name.startswith("ringbinder")}
            assert paths == {"/services/binder/"}
