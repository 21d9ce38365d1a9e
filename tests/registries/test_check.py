"""Looking for images, at a registry in memory that answers as registries do, and as they do on a bad day."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from realparts.parts import PASSWORD
from realparts.token_server import TokenServer
from ringbinder.errors import ConfigError, TransientError
from ringbinder.plugins.context import Context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries._client import MANIFEST_TYPES
from ringbinder_registries.dockerhub import DockerHubRegistry

from .conftest import Make, plan


async def test_a_head_with_all_four_types_and_no_body(server: OciServer, make: Make) -> None:
    digest = server.put("binder/x", "1")
    image = await make().check(plan(f"{server.host}/binder/x:1"), fresh=False)
    assert (image.name, image.kind, image.digest, image.pushed) == (
        f"{server.host}/binder/x:1", "oci", digest, True,
    )  # fmt: skip
    [head] = server.asked("HEAD", "/manifests/")
    assert head.path == "/v2/binder/x/manifests/1"
    assert set(head.headers["accept"].split(", ")) == set(MANIFEST_TYPES)
    assert len(MANIFEST_TYPES) == 4
    assert not server.asked("GET", "/manifests/")


@pytest.mark.parametrize("name", ["x", "a/x", "a/b/c/d/x"])
async def test_names_of_any_depth(server: OciServer, make: Make, name: str) -> None:
    server.put(name, "1")
    assert await make().check(plan(f"{server.host}/{name}:1"), fresh=True)
    assert await make(url=server.url).check(plan(f"elsewhere.example/{name}:1"), fresh=True)


async def test_get_where_head_is_refused(server: OciServer, make: Make) -> None:
    server.refuses_head = True
    server.put("x", "1")
    registry = make()
    assert await registry.check(plan(f"{server.host}/x:1"), fresh=True)
    assert await registry.check(plan(f"{server.host}/x:2"), fresh=True) is None
    assert len(server.asked("HEAD", "/manifests/")) == 1  # once is enough to know
    assert [set(seen.headers["accept"].split(", ")) for seen in server.asked("GET", "/manifests/")] == [
        set(MANIFEST_TYPES)
    ] * 2


async def test_what_was_found_is_remembered_and_what_was_not_is_not(server: OciServer, make: Make) -> None:
    registry, image = make(remember_found=3600), plan(f"{server.host}/x:1")
    assert await registry.check(image, fresh=False) is None
    server.put("x", "1")
    assert await registry.check(image, fresh=False)
    before = len(server.seen)
    assert await registry.check(image, fresh=False)
    assert len(server.seen) == before
    server.remove("x", "1")
    assert await registry.check(image, fresh=True) is None
    assert await registry.check(image, fresh=False) is None


async def test_remembering_can_be_switched_off(server: OciServer, make: Make) -> None:
    registry, image = make(remember_found=0), plan(f"{server.host}/x:1")
    server.put("x", "1")
    assert await registry.check(image, fresh=False)
    server.remove("x", "1")
    assert await registry.check(image, fresh=False) is None


async def test_one_connection_serves_one_request_after_another(guarded: OciServer, make: Make) -> None:
    guarded.put("x", "1")
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    for tag in "12312":
        found = await registry.check(plan(f"{guarded.host}/x:{tag}"), fresh=True)
        assert bool(found) == (tag == "1")
    assert len(guarded.seen) >= 7
    assert len({seen.port for seen in guarded.seen}) == 1


async def test_many_who_look_at_once_are_one_request(guarded: OciServer, make: Make) -> None:
    guarded.put("x", "1")
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    checks = (registry.check(plan(f"{guarded.host}/x:1"), fresh=False) for _ in range(50))
    assert all(await asyncio.gather(*checks))
    assert len(guarded.asked("HEAD", "/manifests/")) == 1
    assert len(guarded.asked("GET", "/token")) == 1


# -- tokens --------------------------------------------------------------------------------------------------


async def test_a_token_is_used_until_it_expires(guarded: OciServer, make: Make) -> None:
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    for tag in "1234":
        assert await registry.check(plan(f"{guarded.host}/x:{tag}"), fresh=True) is None
    assert len(guarded.asked("GET", "/token")) == 1
    assert len(guarded.asked("GET", "/v2/")) == 1


async def test_a_token_with_no_time_left_is_not_kept(guarded: OciServer, make: Make, context: Context) -> None:
    now = 1000.0
    context.services.clock.monotonic = lambda: now  # type: ignore[method-assign]
    guarded.token_seconds = 100
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    for later, tokens in ((0, 1), (79, 1), (81, 2)):
        now = 1000.0 + later
        assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True) is None
        assert len(guarded.asked("GET", "/token")) == tokens


async def test_a_revoked_token_is_renewed(guarded: OciServer, make: Make) -> None:
    guarded.put("x", "1")
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True)
    guarded.revoke_tokens()
    assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True)
    assert len(guarded.asked("GET", "/token")) == 2


async def test_token_url_names_service_once(guarded: OciServer, make: Make) -> None:
    """BinderHub sends two; strict servers refuse that. An empty one in the address is filled in."""
    for token_url in (
        f"{guarded.url}/token",
        f"{guarded.url}/token?service=",
        f"{guarded.url}/token?service=oci-in-memory",
    ):
        registry = make(url=guarded.url, username="builder", password=PASSWORD, token_url=token_url)
        assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True) is None
    for seen in guarded.asked("GET", "/token"):
        assert parse_qs(seen.query) == {"service": ["oci-in-memory"], "scope": ["repository:x:pull"]}


async def test_a_wrong_password_is_reported_at_once(guarded: OciServer, make: Make) -> None:
    registry = make(url=guarded.url, username="builder", password="not-the-word")
    with pytest.raises(ConfigError, match="does not accept the password of builder") as caught:
        await registry.check(plan(f"{guarded.host}/x:1"), fresh=True)
    assert "not-the-word" not in str(caught.value)
    assert len(guarded.asked("GET", "/token")) == 1


async def test_a_password_that_is_missing(guarded: OciServer, make: Make) -> None:
    with pytest.raises(ConfigError, match="wants a user name and a password"):
        await make().check(plan(f"{guarded.host}/x:1"), fresh=True)


async def test_a_wrong_password_without_tokens(make: Make) -> None:
    async with OciServer.running("basic", {"builder": PASSWORD}) as server:
        for missing in (None, True):  # a 401 that asks for a password never means that nothing is there
            registry = make(url=server.url, username="builder", password="not-the-word", not_found_401=missing)
            with pytest.raises(ConfigError, match=r"check DockerRegistry\.username and password"):
                await registry.check(plan(f"{server.host}/x:1"), fresh=True)


async def test_docker_hubs_401_for_what_is_missing(guarded: OciServer, make: Make) -> None:
    guarded.missing_is_401 = True
    image = plan(f"{guarded.host}/x:1")
    options: dict[str, Any] = {"url": guarded.url, "username": "builder"}
    assert await make(password=PASSWORD, **options).check(image, fresh=True) is None
    with pytest.raises(ConfigError, match=r"right to.*DockerRegistry\.not_found_401: true"):
        await make(password=PASSWORD, not_found_401=False, **options).check(image, fresh=True)
    hub = make(DockerHubRegistry, password=PASSWORD, not_found_401=True, **options)
    assert await hub.check(image, fresh=True) is None
    guarded.put("x", "1")
    assert await hub.check(image, fresh=True)
    wrong = make(DockerHubRegistry, password="not-the-word", not_found_401=True, **options)
    with pytest.raises(ConfigError, match="does not accept the password"):
        await wrong.check(image, fresh=True)


async def test_a_token_that_the_registry_does_not_take_is_no_absence(make: Make, server: OciServer) -> None:
    how = f'Bearer realm="{server.url}/other",error="invalid_token"'
    token = web.json_response({"access_token": "abc"})
    refused = [web.Response(status=401, headers={"WWW-Authenticate": how}) for _ in range(3)]
    again = web.json_response({"access_token": "def"})
    server.answers = [refused[0], token, refused[1], again, refused[2]]
    with pytest.raises(ConfigError, match="HTTP status 401"):
        await make(not_found_401=True).check(plan(f"{server.host}/x:1"), fresh=True)


async def test_an_identity_token_is_changed_for_an_access_token(server: OciServer, make: Make, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {server.host: {"identitytoken": "refresh-me"}}}))
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/oauth2/token",service=s'}
    server.answers = [web.Response(status=401, headers=challenge), web.json_response({"access_token": "abc"})]
    assert await make(docker_config_path=config).check(plan(f"{server.host}/x:1"), fresh=True) is None
    [post] = server.asked("POST", "/oauth2/token")
    assert "authorization" not in post.headers
    assert server.seen[-1].headers["authorization"] == "Bearer abc"


async def test_no_password_is_sent_without_https_to_a_token_server(make: Make) -> None:
    client = make(username="builder", password=PASSWORD)._client("https://registry.example")
    with pytest.raises(ConfigError, match="without https"):
        await client._token("http://evil.example/token", "s", ("repository:x:pull",), None)


async def test_credentials_do_not_follow_a_redirect_to_another_host(guarded: OciServer, make: Make) -> None:
    async with OciServer.running() as other:
        other.put("x", "1")
        registry = make(url=guarded.url, username="builder", password=PASSWORD)
        assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True) is None
        guarded.answers = [web.Response(status=307, headers={"Location": f"{other.url}/v2/x/manifests/1"})]
        assert await registry.check(plan(f"{guarded.host}/x:1"), fresh=True)
        assert "authorization" in guarded.seen[-1].headers
        [seen] = other.seen
        assert "authorization" not in seen.headers


# -- outages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_trouble_that_passes(server: OciServer, make: Make, status: int) -> None:
    server.put("x", "1")
    registry = make()
    assert await registry.check(plan(f"{server.host}/x:1"), fresh=True)
    server.answers = [web.Response(status=status) for _ in range(2)]
    assert await registry.check(plan(f"{server.host}/x:1"), fresh=True)
    assert not server.answers


async def test_trouble_that_stays(server: OciServer, make: Make) -> None:
    server.answers = [web.Response(status=503) for _ in range(9)]
    with pytest.raises(TransientError, match=rf"The registry {server.host} did not answer: HTTP status 503"):
        await make(retries=4).check(plan(f"{server.host}/x:1"), fresh=True)
    assert len(server.seen) == 5


async def test_retry_after_is_honoured(server: OciServer, make: Make, context: Context) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    context.services.clock.sleep = sleep  # type: ignore[method-assign]
    server.put("x", "1")
    server.answers = [web.Response(status=429, headers={"Retry-After": "7"}) for _ in range(2)]
    assert await make().check(plan(f"{server.host}/x:1"), fresh=True)
    assert waits == [7, 7]
    server.answers = [web.Response(status=429, headers={"Retry-After": "900"})]
    with pytest.raises(TransientError) as caught:
        await make().check(plan(f"{server.host}/x:1"), fresh=True)
    assert caught.value.retry_after == 900
    assert waits == [7, 7]  # nobody waits here for a quarter of an hour


async def test_address_without_a_listener(make: Make, unused_tcp_port: int) -> None:
    with pytest.raises(TransientError, match=f"127.0.0.1:{unused_tcp_port} did not answer"):
        await make().check(plan(f"127.0.0.1:{unused_tcp_port}/x:1"), fresh=True)


async def test_a_registry_that_takes_for_ever(server: OciServer, make: Make) -> None:
    async with server.stalled():
        with pytest.raises(TransientError, match=r"did not answer within 0\.2 seconds"):
            await make(timeout=0.2).check(plan(f"{server.host}/x:1"), fresh=True)


async def test_building_anyway_is_an_option(server: OciServer, make: Make) -> None:
    registry, image = make(build_if_unreachable=True, retries=0), plan(f"{server.host}/x:1")
    async with server.down():
        assert await registry.check(image, fresh=False) is None
        assert await registry.check(image, fresh=True) is None
        await registry.target(image)
        # Whether it has arrived after the build is another question.
        with pytest.raises(TransientError):
            await registry.check(image, fresh=True)
        assert await registry.check(image, fresh=False) is None


async def test_a_web_site_is_no_registry(server: OciServer, make: Make) -> None:

    def page(status: int = 200) -> web.Response:
        return web.Response(status=status, text="<h1>welcome</h1>", content_type="text/html")

    server.answers = [page(404)]
    with pytest.raises(ConfigError, match="is no registry"):
        await make().check(plan(f"{server.host}/x:1"), fresh=True)
    server.answers = [page(), page()]
    with pytest.raises(ConfigError, match="text/html"):
        await make().check(plan(f"{server.host}/x:1"), fresh=True)


async def test_a_name_that_no_registry_takes(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"BinderHub.image_prefix: .*a/-b:1"):
        await make().check(plan("a/-b:1"), fresh=True)


async def test_registrys_answer_is_passed_on_in_few_words(server: OciServer, make: Make) -> None:
    errors = {"errors": [{"code": "DENIED", "message": "no such\x1b[31m right" + "!" * 500}]}
    server.answers = [web.json_response({}), web.Response(status=405), web.json_response(errors, status=403)]
    with pytest.raises(ConfigError, match=r"\(DENIED: no such \[31m right!+\); set DockerRegistry\.username") as caught:
        await make().check(plan(f"{server.host}/x:1"), fresh=True)
    assert len(str(caught.value)) < 500


async def test_health(server: OciServer, make: Make) -> None:
    registry = make(url=server.url, retries=0)
    assert (await registry.health()).ok
    async with server.down():
        health = await registry.health()
    assert (health.service, health.ok) == ("Docker registry", False)
    assert "did not answer" in health.detail["message"]
    for _ in range(3):  # a failure is not remembered
        assert (await registry.health()).ok


async def test_a_certificate_that_no_one_vouches_for(make: Make, tmp_path: Path) -> None:
    tokens = TokenServer("hub", "s", {})
    tokens.write_key_and_certificate(tmp_path / "pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pem")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match="its certificate is not trusted"):
            await make(url=f"https://127.0.0.1:{port}").check(plan("x:1"), fresh=True)
