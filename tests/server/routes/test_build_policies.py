"""Who may start something: build tokens, rate limit, bans, proxies and quotas, over the wire."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import ConfigError
from ringbinder_server.security.proxies import believe, networks

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

LINK = "build/fake/owner/name/main"
CACHED = {"FakeRegistry.cached": "true"}
KEY = "00112233445566778899aabbccddeeff" * 2
PROXIED = {"Ringbinder.trusted_proxies": "[127.0.0.0/8, 10.0.0.0/8]"}


def token(aud: str = "fake/owner/name/main", key: str = KEY, **claims: Any) -> str:
    made = {"exp": int(time.time()) + 86400, "aud": aud, "origin": "hub.example", **claims}
    return jwt.encode(
        {name: value for name, value in made.items() if value is not None},
        bytes.fromhex(key),
        algorithm="HS256",
    )


@pytest.mark.parametrize(("given", "told"), [("", "127.0.0.1"), ("binder.example", "binder.example")])
async def test_all_hosts_of_a_site_may_count_as_one(serve: Serve, given: str, told: str) -> None:
    async with serve({"BinderHub.normalized_origin": given, **CACHED}, gate=True) as live:
        await live.events(LINK)
        assert live.gate.requests[0].client.host == told


@pytest.mark.parametrize(
    ("sent", "good"),
    [
        (token(), True),
        (token(aud="fake/owner/name/other"), False),
        (token(exp=int(time.time()) - 10), False),
        (token(exp=None), False),
        (token(origin="evil.example"), False),
        (token(key="aa" * 32), False),
        (jwt.encode({"aud": "fake/owner/name/main", "origin": "hub.example"}, "", algorithm="none"), False),
        ("nonsense", False),
    ],
)
async def test_a_build_token_is_for_one_link_one_host_and_a_while(serve: Serve, sent: str, good: bool) -> None:
    sets = {"BinderHub.build_token_secret": KEY, "Ringbinder.allowed_hosts": "['*']", **CACHED}
    async with serve(sets, gate=True) as live:
        events = await live.events(f"{LINK}?build_token={sent}", {"Host": "hub.example"})
        if good:
            assert [events[-1]["phase"], live.gate.requests[0].build_token] == ["ready", True]
        else:
            reason = {"message": "Invalid build token\n", "code": "forbidden", "status_code": 403}
            assert events == [{"phase": "failed", **reason}]
            assert live.gate.requests == []
        assert not [entry for entry in live.logged if sent in str(entry)]


async def test_token_belongs_to_the_raw_spec_and_replicas_share_a_key(serve: Serve) -> None:
    sets = {"BinderHub.build_token_secret": KEY, "Ringbinder.allowed_hosts": "['*']", **CACHED}
    async with serve(sets) as live:
        sent = token("fake/a%2Fb/c/d/")
        assert (await live.events(f"build/fake/a%2Fb/c/d/?build_token={sent}", {"Host": "hub.example"}))[-1][
            "phase"
        ] == "ready"
        assert (await live.events(f"build/fake/a%2Fb/c/d?build_token={sent}", {"Host": "hub.example"}))[-1][
            "status_code"
        ] == 403
        origin = {"Host": "hub.example", "Origin": "http://hub.example"}
        assert (await live.events(f"build/fake/a%2Fb/c/d/?build_token={sent}", origin))[-1]["phase"] == "ready"


async def test_a_key_that_is_too_short_is_refused(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="32 hexadecimal digits") as caught:
        async with serve({"BinderHub.build_token_secret": "beef"}):
            pass
    assert "beef" not in str(caught.value)


def by(ip: str, **more: str) -> dict[str, str]:
    return {"X-Forwarded-For": ip, **more}


async def test_builds_are_limited_by_client_and_launches_are_not(serve: Serve) -> None:
    sets = {**PROXIED, "RateLimiter.limit": "2", "RateLimiter.period_seconds": "1h"}
    async with serve(sets) as live:

        async def ask(name: str, ip: str) -> tuple[dict[str, Any], dict[str, str]]:
            async with live.stream(f"build/fake/owner/{name}/main", by(ip)) as stream:
                headers = {name: value for name, value in stream.response.headers.items() if "ratelimit" in name}
                return (await stream.rest())[-1], headers

        for left, name in ((2, "a"), (1, "b")):
            event, headers = await ask(name, "192.0.2.7")
            assert event["phase"] == "ready"
            assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("2", str(left))
        assert time.time() + 3500 < int(headers["x-ratelimit-reset"]) <= time.time() + 3602
        event, headers = await ask("c", "192.0.2.7")
        assert (event["status_code"], headers["x-ratelimit-remaining"]) == (429, "0")
        assert 3500 < event["retry_after"] <= 3600
        assert event["message"] == f"Rate limit exceeded. Try again in {event['retry_after']} seconds.\n"
        assert (await ask("a", "192.0.2.7"))[0]["phase"] == "ready", "it is built"
        assert (await ask("c", "192.0.2.8"))[0]["phase"] == "ready", "another client"
        assert (await ask("c", "192.0.2.7"))[0]["phase"] == "ready", "now it is built"
        assert (await ask("d", "2001:db8::1"))[0]["phase"] == "ready"
        assert (await ask("e", "2001:db8::2"))[0]["phase"] == "ready"
        assert (await ask("f", "2001:db8::3"))[0]["status_code"] == 429, "all of one home"
        event, headers = await ask("g", "127.0.0.1")
        assert (event["phase"], headers) == ("ready", {})


async def test_who_is_at_this_machine_is_not_limited(serve: Serve) -> None:
    async with serve({"RateLimiter.limit": "1"}) as live:
        for name in "abc":
            response = await live.client.get(f"{live.address}build/fake/a/{name}/HEAD")
            assert '"ready"' in response.text
            assert "x-ratelimit-limit" not in response.headers


async def test_who_has_a_build_token_is_not_limited(serve: Serve) -> None:
    sets = {**PROXIED, "RateLimiter.limit": "1", "Ringbinder.allowed_hosts": "['*']"}
    async with serve({**sets, "BinderHub.build_token_secret": KEY}) as live:
        for name in "abc":
            sent = token(f"fake/owner/{name}/x")
            async with live.stream(
                f"build/fake/owner/{name}/x?build_token={sent}", by("192.0.2.1", Host="hub.example")
            ) as stream:
                assert (await stream.rest())[-1]["phase"] == "ready"
                assert "x-ratelimit-limit" not in stream.response.headers


async def test_a_banned_network_gets_nothing_but_version_and_health(serve: Serve) -> None:
    sets = {**PROXIED, **CACHED, "BinderHub.ban_networks": "{192.0.2.0/24: 'Example, Inc.'}"}
    async with serve(sets, gate=True) as live:
        banned = by("192.0.2.200")
        assert await live.events(LINK, banned) == [
            {
                "phase": "failed",
                "message": "Requests from Example, Inc. are not allowed\n",
                "code": "forbidden",
                "status_code": 403,
            }
        ]
        for path in ("", "metrics", "v2/fake/a/b/c", "api/v1/images/fake/a/b/c", "badge.svg", "robots.txt"):
            response = await live.client.get(live.address + path, headers=banned)
            assert (response.status_code, "Example, Inc." in response.text) == (403, True), path
        for path in ("versions", "health"):
            assert (await live.client.get(live.address + path, headers=banned)).status_code == 200
        assert live.gate.requests == []
        assert (await live.events(LINK, by("198.51.100.1")))[-1]["phase"] == "ready"


@pytest.mark.parametrize(
    ("agent", "blocked"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        ("Mozilla/5.0 (compatible; Baiduspider/2.0)", True),
        ("MJ12Crawler", True),
        ("BinderBot-cli v0.1", False),
        ("Mozilla/5.0 (Linux; Android 8.0; CUBOT NOTE S) Chrome/120", False),
        ("curl/8.5.0", False),
        ("", False),
    ],
)
async def test_crawlers_start_no_builds(serve: Serve, agent: str, blocked: bool) -> None:
    async with serve(CACHED, gate=True) as live:
        last = (await live.events(LINK, {"User-Agent": agent}))[-1]
        assert (last.get("status_code") == 403) is blocked
        assert bool(live.gate.requests) is not blocked
        assert (await live.client.get(live.address, headers={"User-Agent": agent})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "ip", "scheme"),
    [
        (by("192.0.2.1"), "192.0.2.1", "http"),
        (by("6.6.6.6, 192.0.2.1, 10.1.2.3"), "192.0.2.1", "http"),
        (by("10.9.9.9, 10.1.2.3"), "10.9.9.9", "http"),
        (by("192.0.2.1:4711"), "192.0.2.1", "http"),
        (by("[2001:db8::1]:80"), "2001:db8::1", "http"),
        (by("::ffff:192.0.2.1"), "192.0.2.1", "http"),
        (by("192.0.2.1, junk"), "127.0.0.1", "http"),
        ({"X-Real-Ip": "192.0.2.9", "X-Scheme": "https"}, "192.0.2.9", "https"),
        (by("192.0.2.1", **{"X-Forwarded-Proto": "http, https"}), "192.0.2.1", "https"),
        ({"X-Forwarded-Proto": "javascript"}, "127.0.0.1", "http"),
    ],
)
async def test_a_trusted_proxy_is_believed(serve: Serve, headers: dict[str, str], ip: str, scheme: str) -> None:
    async with serve({**PROXIED, **CACHED}, gate=True) as live:
        await live.events(LINK, headers)
        [request] = live.gate.requests
        assert request.client.ip == ip
        assert request.launch_host.startswith(f"{scheme}://")


@given(st.lists(st.one_of(st.text(max_size=12), st.ip_addresses().map(str)), max_size=5))
def test_forwarded_headers_give_an_address_only_from_a_proxy(parts: list[str]) -> None:
    value = ", ".join(parts).encode("latin-1", "replace")

    def told(peer: str) -> str:
        scope: Any = {"client": (peer, 1), "scheme": "http", "headers": [(b"X-Forwarded-For", value)]}
        believe(scope, networks(["10.0.0.0/8"]))
        return str(scope["client"][0])

    assert ipaddress.ip_address(told("10.0.0.1"))
    assert told("8.8.8.8") == "8.8.8.8"


@pytest.mark.parametrize("networks", ["[10.0.0.0/33]", "[proxy.example]"])
async def test_a_network_that_is_none_is_a_configuration_error(serve: Serve, networks: str) -> None:
    with pytest.raises(ConfigError, match="no network"):
        async with serve({"Ringbinder.trusted_proxies": networks}):
            pass


@pytest.mark.parametrize(("accept", "served"), [("*/*", False), ("", False), ("text/event-stream, */*", True)])
async def test_the_strict_switch_wants_the_type_by_name(serve: Serve, accept: str, served: bool) -> None:
    async with serve({**CACHED, "Ringbinder.strict_accept": "true"}) as live:
        last = (await live.events(LINK, {"Accept": accept}))[-1]
        assert (last["phase"] == "ready") is served


async def stop_one(live: Live) -> None:
    await live.binder.servers.stop((await live.binder.servers.running())[0])


async def test_launch_over_quota_waits_and_learns_its_place(serve: Serve) -> None:
    sets = {**CACHED, "LaunchQuota.total_quota": "2", "LaunchQuota.poll_interval": "0.05"}
    async with serve(sets) as live:
        for _ in range(2):
            assert (await live.events(LINK))[-1]["phase"] == "ready"
        async with live.stream(LINK) as first, live.stream("build/fake/owner/other/main") as second:
            [reported] = await first.until("waiting")
            assert reported == {
                "phase": "waiting",
                "message": "Waiting for a free place: number 1 in the queue\n",
                "queue": {"position": 1, "eta_s": reported["queue"]["eta_s"]},
            }
            assert (await second.next())["queue"]["position"] == 2
            await stop_one(live)
            events = await first.until("ready")
            assert [event["phase"] for event in events][:2] == ["built", "launching"], "the place comes first"
            assert (await second.next())["queue"]["position"] == 1
            await stop_one(live)
            assert (await second.until("ready"))[-1]["url"]
        assert len(await live.binder.servers.running()) == 2


@pytest.mark.parametrize("quota", ["total_quota", "per_repo_quota"])
async def test_of_many_at_once_no_more_than_the_quota_get_in(serve: Serve, quota: str) -> None:
    sets = {
        **CACHED, f"LaunchQuota.{quota}": "5", "LaunchQuota.when_full": "refuse",
        "FakeLauncher.launch_seconds": "0.3",
    }  # fmt: skip
    async with serve(sets) as live:
        ends = [events[-1] for events in await asyncio.gather(*(live.events(LINK) for _ in range(20)))]
        assert sorted(end["phase"] for end in ends) == ["failed"] * 15 + ["ready"] * 5
        reported = {end["message"] for end in ends if end["phase"] == "failed"}
        whom = "on this BinderHub" if quota == "total_quota" else "running https://fake.invalid/owner/name"
        assert reported == {f"Too many users {whom}! Try again soon.\n"}
        metrics = (await live.client.get(live.address + "metrics")).text
        status = "pod_quota" if quota == "total_quota" else "repo_quota"
        assert f'status="{status}"}} 15.0' in metrics
        if quota == "per_repo_quota":
            assert (await live.events("build/fake/owner/other/x"))[-1]["phase"] == "ready"
        else:
            checks = (await live.client.get(live.address + "health")).json()["checks"]
            [check] = [check for check in checks if check["service"] == "Pod quota"]
            assert check == {
                "service": "Pod quota", "ok": True, "_ignore_failure": True,
                "total_pods": 5, "build_pods": 0, "user_pods": 5, "quota": 5,
            }  # fmt: skip


async def test_repository_at_its_quota_holds_up_no_other(serve: Serve) -> None:
    sets = {"BinderHub.per_repo_quota": "1", "LaunchQuota.poll_interval": "0.05", "BinderHub.pod_quota": "9"}
    async with serve(sets, gate=True) as live:
        live.gate.shut()
        async with live.stream(LINK) as first:
            await first.until("building")
            async with live.stream("build/fake/owner/name/other-commit") as second:
                assert (await second.next())["queue"]["position"] == 1
                async with live.stream("build/fake/owner/third/main") as third:
                    assert (await third.until("building"))[-1]
                assert len(live.gate.builds) == 2, "nothing is built for who cannot launch"


async def test_leaving_the_queue_makes_room_and_long_waits_are_refused(serve: Serve) -> None:
    sets = {
        **CACHED, "LaunchQuota.total_quota": "0", "LaunchQuota.poll_interval": "0.05",
        "LaunchQuota.max_wait": "1s", "LaunchQuota.max_waiting": "2", "Ringbinder.session_grace": "0.1",
    }  # fmt: skip
    async with serve(sets) as live, live.stream(LINK) as first:
        await first.next()
        async with live.stream(LINK) as second:
            assert (await second.next())["queue"]["position"] == 2
            assert (await live.events(LINK))[-1]["code"] == "refused", "two may wait"
            await first.response.aclose()
            assert (await second.next())["queue"]["position"] == 1
            last = (await second.rest())[-1]
            assert (last["code"], last["retry_after"]) == ("refused", 60)
