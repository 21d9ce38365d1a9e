"""Who may start builds: by Host, Origin and Sec-Fetch-Site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ringbinder.config.loading import load
from ringbinder_server.security.origins import Asker, Guard

if TYPE_CHECKING:
    from tests.server.conftest import Serve

ALLOW = "BinderHub.cors_allow_origin=https://docs.example"
PUBLIC = "BinderHub.badge_base_url=https://hub.example/b"
HOSTS = "Ringbinder.allowed_hosts=[lab.example]"


def guard(*sets: str, bound: str = "127.0.0.1") -> Guard:
    return Guard.of(load((), environ={}, sets=sets), bound)


@pytest.mark.parametrize(
    ("sets", "host", "origin", "site", "told"),
    [
        # This machine's own names, with and without a port; programs send no Origin.
        ([], "localhost:8585", "", "", ""),
        ([], "LOCALHOST", "", "", ""),
        ([], "localhost.:8585", "", "", ""),
        ([], "127.0.0.1:8585", "", "", ""),
        ([], "[::1]:8585", "", "", ""),
        # Under another name, DNS may have been turned against us, whatever the page says of itself.
        ([], "evil.example:8585", "", "", "allowed_hosts"),
        ([], "evil.example:8585", "http://evil.example:8585", "same-origin", "allowed_hosts"),
        ([], "localhost.evil.example", "", "", "allowed_hosts"),
        ([], "evil.example@localhost", "", "", "allowed_hosts"),
        ([], "127.0.0.1.evil.example", "", "", "allowed_hosts"),
        ([], "", "", "", "allowed_hosts"),
        ([], "[::1", "", "", "allowed_hosts"),
        ([HOSTS], "lab.example:80", "", "", ""),
        ([HOSTS], "lab2.example", "", "", "allowed_hosts"),
        (["Ringbinder.allowed_hosts=['*']"], "anything.example", "", "", ""),
        ([PUBLIC], "hub.example", "", "", ""),
        ([PUBLIC], "docs.example", "", "", "allowed_hosts"),
        # Our own pages.
        ([], "localhost:8585", "http://localhost:8585", "", ""),
        ([], "localhost", "http://localhost:80", "", ""),
        ([], "localhost:8585", "", "same-origin", ""),
        ([], "localhost:8585", "", "none", ""),
        ([PUBLIC], "hub.example", "https://hub.example", "", ""),
        # Another scheme, host or port is another origin.
        ([], "localhost:8585", "https://localhost:8585", "", "cors_allow_origin"),
        ([], "localhost:8585", "http://localhost:8586", "", "cors_allow_origin"),
        ([], "localhost:8585", "http://localhost", "", "cors_allow_origin"),
        ([], "localhost:8585", "http://127.0.0.1:8585", "", "cors_allow_origin"),
        ([], "localhost:8585", "https://evil.example", "same-origin", "cors_allow_origin"),
        ([], "localhost:8585", "null", "", "hides the origin of the page"),
        # A page that does not say who it is.
        ([], "localhost:8585", "", "cross-site", "cors_allow_origin"),
        ([], "localhost:8585", "", "same-site", "cors_allow_origin"),
        # What the operator allows.
        ([ALLOW], "localhost:8585", "https://docs.example", "cross-site", ""),
        ([ALLOW], "localhost:8585", "https://DOCS.example:443", "", ""),
        ([ALLOW], "localhost:8585", "https://docs.example.evil.example", "", "cors_allow_origin"),
        ([ALLOW], "localhost:8585", "http://docs.example", "", "cors_allow_origin"),
        ([ALLOW], "localhost:8585", "", "cross-site", "cors_allow_origin"),
        (
            ["BinderHub.cors_allow_origin=[https://a.example, https://b.example]"],
            "localhost",
            "https://b.example",
            "",
            "",
        ),
        (["BinderHub.cors_allow_origin='*'"], "localhost", "https://any.example", "cross-site", ""),
        (["BinderHub.cors_allow_origin='*'"], "localhost", "", "cross-site", ""),
        (["BinderHub.cors_allow_origin='*'"], "evil.example", "https://any.example", "", "allowed_hosts"),
    ],
)
def test_who_may(sets: list[str], host: str, origin: str, site: str, told: str) -> None:
    refusal = guard(*sets).refusal(Asker("http", host, origin, site))
    assert told in refusal
    assert bool(refusal) == bool(told)


@pytest.mark.parametrize(("bound", "host"), [("192.0.2.7", "192.0.2.7:80"), ("2001:db8::1", "[2001:db8::1]:80")])
def test_the_address_that_is_listened_on_is_known(bound: str, host: str) -> None:
    assert guard(bound=bound).refusal(Asker("http", host)) == ""
    assert guard().refusal(Asker("http", host)) != ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
async def test_a_refusal_is_one_event_and_starts_nothing(serve: Serve, headers: dict[str, str]) -> None:
    async with serve(gate=True) as live:
        [event] = await live.events("build/fake/a/b/c", headers)
        assert (event["phase"], event["status_code"]) == ("failed", 403)
        assert live.gate.requests == []
        assert live.binder.sessions.known == {}


async def test_a_foreign_page_cannot_take_over_a_session(serve: Serve) -> None:
    async with serve({"FakeRegistry.cached": "true"}) as live:
        async with live.stream("build/fake/a/b/c") as stream:
            await stream.rest()
        headers = {"Origin": "https://evil.example", "Last-Event-ID": stream.ids[0]}
        [event] = await live.events("build/fake/a/b/c", headers)
        assert event["status_code"] == 403


async def test_pages_of_an_allowed_origin_may_read(serve: Serve) -> None:
    allowed = {"Origin": "https://docs.example"}
    async with serve({"FakeRegistry.cached": "true", "BinderHub.cors_allow_origin": "https://docs.example"}) as live:
        async with live.stream("build/fake/a/b/c", allowed) as stream:
            assert (await stream.rest())[-1]["phase"] == "ready"
            assert stream.response.headers["access-control-allow-origin"] == "https://docs.example"
            assert stream.response.headers["vary"] == "Origin"
        preflight = await live.client.options(live.address + "build/fake/a/b/c", headers=allowed)
        assert preflight.status_code == 200
        names = preflight.headers["access-control-allow-headers"].split(", ")
        assert set(names) >= {
            "cache-control",
            "authorization",
            "x-xsrftoken",
            "last-event-id",
            "content-type",
        }
        for path in ("versions", "build/fake/a/b/c"):
            foreign = await live.client.options(live.address + path, headers={"Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in foreign.headers
            assert foreign.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("build/fake/a/b/c", {}, 200),
        ("build/fake/a/b/c", {"Accept": "text/html"}, 200),
        ("build/fake/a/b/c?build_token=x", {}, 200),
        ("build/nope/a", {}, 200),
        ("build/fake/a/b/c", {"Host": "evil.example"}, 200),
        ("build/fake", {}, 404),
        ("api/v1/images/fake/a/b/c", {}, 200),
        ("api/v1/images/fake/a/b/c", {"Host": "evil.example"}, 403),
    ],
)
async def test_page_behind_a_redirector_reads_all_answers(
    serve: Serve, path: str, headers: dict[str, str], status: int
) -> None:
    sets = {"FakeRegistry.cached": "true", "BinderHub.badge_base_url": "https://binder.example/"}
    async with serve(sets) as live:
        own = {"Origin": "https://binder.example", **headers}
        async with live.client.stream("GET", live.address + path, headers=own) as response:
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == "https://binder.example"
        foreign = {"Origin": "https://evil.example", **headers}
        async with live.client.stream("GET", live.address + path, headers=foreign) as response:
            assert "access-control-allow-origin" not in response.headers


async def test_with_a_star_all_may_read(serve: Serve) -> None:
    async with serve({"BinderHub.cors_allow_origin": "'*'"}) as live:
        response = await live.client.get(live.address + "versions")
        assert response.headers["access-control-allow-origin"] == "*"


async def test_by_default_no_other_page_may_read(serve: Serve) -> None:
    async with serve() as live:
        for origin in ("https://evil.example", "null"):
            response = await live.client.get(live.address + "versions", headers={"Origin": origin})
            assert not [name for name in response.headers if name.startswith("access-control")]
