"""Who we are: options, docker's `config.json`, helpers, Google's machines; and to whom that is told."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from ringbinder.errors import ConfigError, TransientError
from ringbinder.image_reference import Reference
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries import _credentials
from ringbinder_registries._credentials import Credentials, DockerConfig, host_of
from ringbinder_registries._options import base_url
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.gcr import GcrRegistry
from ringbinder_registries.oci import repository

from .conftest import Make, plan

HUB = "https://index.docker.io/v1/"
AUTH = base64.b64encode(b"me:my:word").decode()


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig(tmp_path / "config.json", structlog.get_logger())


def write(config: DockerConfig, **content: Any) -> None:
    config.path.write_text(json.dumps(content))


def told(found: Credentials | None) -> tuple[str, str, str, bool] | None:
    if found is None:
        return None
    return found.registry, found.username, found.password.reveal(), found.identity


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (HUB, HUB),
        (HUB, "https://index.docker.io/v1"),
        (HUB, "https://registry-1.docker.io"),
        (HUB, "docker.io"),
        ("https://index.docker.io/v1", HUB),
        ("docker.io", "https://registry.hub.docker.com"),
        ("https://quay.io", "quay.io"),
        ("quay.io", "https://quay.io/"),
        ("http://localhost:5000/v2/", "http://localhost:5000"),
        ("Quay.IO", "https://quay.io"),
    ],
)
async def test_one_registry_by_many_names(config: DockerConfig, key: str, asked: str) -> None:
    write(config, auths={"other.example": {"auth": "bm86bm8="}, key: {"auth": AUTH}})
    registry = HUB if "docker" in key else host_of(asked)
    assert told(await config.find(asked)) == (registry, "me", "my:word", False)


async def test_every_form_of_an_entry(config: DockerConfig) -> None:
    write(
        config,
        auths={
            "a.example": {"auth": AUTH},
            "b.example": {"username": "you", "password": "your-word"},
            "c.example": {"auth": AUTH, "identitytoken": "refresh"},
            "d.example": {},
            "https://e.example/other": {"username": "other", "password": "w"},
            "https://e.example/": {"username": "exact", "password": "w"},
        },
    )
    assert told(await config.find("a.example")) == ("a.example", "me", "my:word", False)
    assert told(await config.find("b.example")) == ("b.example", "you", "your-word", False)
    assert told(await config.find("c.example")) == ("c.example", "<token>", "refresh", True)
    assert await config.find("d.example") is None
    assert told(await config.find("https://e.example")) == ("e.example", "exact", "w", False)
    assert await config.find("nowhere.example") is None


async def test_no_file_is_no_credentials_and_a_new_one_is_read(config: DockerConfig) -> None:
    assert await config.find(HUB) is None
    write(config, auths={HUB: {"auth": AUTH}})
    assert await config.find(HUB)


@pytest.mark.parametrize(
    "content",
    [
        "no json, my-secret-word", "[]", '{"auths": [1]}', '{"auths": {"a.example": "my-secret-word"}}',
        '{"auths": {"a.example": {"auth": "my-secret-word!"}}}', '{"auths": {"a.example": {"auth": "bm8="}}}',
        '{"auths": {"a.example": {"auth": 5}}}', '{"credHelpers": {"a.example": "../my-secret-word"}}',
        '{"credHelpers": {"a.example": "not-installed-anywhere"}}',
    ],
)  # fmt: skip
async def test_a_file_that_is_wrong_is_named_and_not_quoted(config: DockerConfig, content: str) -> None:
    config.path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        await config.find("a.example")
    assert str(config.path) in str(caught.value)
    assert "my-secret-word" not in str(caught.value)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a program ``docker-credential-NAME`` that runs a line of shell; remembers what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name: str, line: str) -> Path:
        program = folder / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\necho "$* $(cat)" >> "{folder}/asked"\n{line}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return folder / "asked"

    return make


async def test_a_helper_is_asked_for_its_registry_alone(config: DockerConfig, helper: Any) -> None:
    asked = helper("ecr", """echo '{"ServerURL": "x", "Username": "AWS", "Secret": "short-lived"}'""")
    write(config, auths={"a.example": {"auth": AUTH}}, credHelpers={"b.example": "ecr"})
    assert told(await config.find("https://b.example")) == ("b.example", "AWS", "short-lived", False)
    assert told(await config.find("a.example")) == ("a.example", "me", "my:word", False)
    assert asked.read_text() == "get b.example\n"


async def test_a_store_is_asked_for_all(config: DockerConfig, helper: Any) -> None:
    asked = helper("store", """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    write(config, auths={HUB: {}}, credsStore="store")
    assert told(await config.find("docker.io")) == (HUB, "<token>", "refresh", True)
    assert asked.read_text() == f"get {HUB}\n"


async def test_a_store_without_an_entry_or_out_of_order(config: DockerConfig, helper: Any) -> None:
    helper("empty", "echo 'credentials not found in native keychain'; exit 1")
    helper("broken", "echo 'no session bus'; exit 1")
    for store in ("empty", "broken", "not-installed-anywhere"):
        write(config, auths={"a.example": {"auth": AUTH}}, credsStore=store)
        assert told(await config.find("a.example")) == ("a.example", "me", "my:word", False)
    write(config, credHelpers={"a.example": "broken"})
    with pytest.raises(ConfigError, match=r"docker-credential-broken failed with exit code 1 .*no session bus"):
        await config.find("a.example")
    helper("mumbling", "echo secret-nonsense")
    write(config, credHelpers={"a.example": "mumbling"})
    with pytest.raises(ConfigError, match="no credentials that can be understood") as caught:
        await config.find("a.example")
    assert "nonsense" not in str(caught.value)


async def test_helper_that_does_not_answer_is_no_lasting_error(
    config: DockerConfig, helper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_credentials, "_HELPER_SECONDS", 0.1)
    helper("ecr", "exec sleep 60")
    write(config, credHelpers={"a.example": "ecr"})
    with pytest.raises(TransientError, match="docker-credential-ecr"):
        await config.find("a.example")


async def test_a_helper_is_not_asked_for_every_look(make: Make, helper: Any, tmp_path: Path) -> None:
    async with OciServer.running("basic", {"AWS": "short-lived"}) as server:
        asked = helper("ecr", """echo '{"Username": "AWS", "Secret": "short-lived"}'""")
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"credHelpers": {server.host: "ecr"}}))
        registry = make(docker_config_path=file)
        for tag in "123":
            assert await registry.check(plan(f"{server.host}/x:{tag}"), fresh=True) is None
        assert len(asked.read_text().splitlines()) == 1
        # A password that has expired is asked for anew, and so is one for a build.
        server.users = {"AWS": "another"}
        helper("ecr", """echo '{"Username": "AWS", "Secret": "another"}'""")
        assert await registry.check(plan(f"{server.host}/x:4"), fresh=True) is None
        target = await registry.target(plan(f"{server.host}/x:4"))
        assert json.loads(target.credentials.reveal()) == {
            "registry": server.host, "username": "AWS", "password": "another",
        }  # fmt: skip
        assert len(asked.read_text().splitlines()) == 3


# -- which credentials for whom ------------------------------------------------------------------------------


async def login(registry: Any, image: str) -> dict[str, str] | None:
    target = await registry.target(plan(image))
    return json.loads(target.credentials.reveal()) if target.credentials else None


async def test_a_password_is_for_its_own_registry(make: Make) -> None:
    registry = make(url="https://a.example", username="me", password="my-word")
    assert await registry.credentials("a.example")
    assert await registry.credentials("https://b.example") is None
    # Whoever builds an image for another name of the registry is told whose password it is.
    assert await login(registry, "b.example/x:1") == {
        "registry": "a.example", "username": "me", "password": "my-word",
    }  # fmt: skip


async def test_operator_may_choose_whose_credentials_are_used(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"key.example": {"auth": AUTH}}}))
    async with OciServer.running("basic", {"me": "my:word"}) as server:
        registry = make(url=server.url, auth_config_url="key.example", docker_config_path=file)
        assert await registry.check(plan(f"{server.host}/x:1"), fresh=True) is None


async def test_the_prefix_shows_which_registry_is_meant(make: Make) -> None:
    registry = make(image_prefix="a.example/x-", password="my-word")
    assert await login(registry, "a.example/x-y:1") == {
        "registry": "a.example", "username": "token", "password": "my-word",
    }  # fmt: skip
    hub = make(DockerHubRegistry, username="me", password="my-word")
    assert await login(hub, "me/x:1") == {"registry": HUB, "username": "me", "password": "my-word"}


@pytest.mark.parametrize(
    ("password", "username"),
    [('{"type": "x"}', "_json_key"), ("ya29.abc", "oauth2accesstoken"), ("eyJ0eXAi", "_json_key_base64")],
)
async def test_google_knows_its_user_names(make: Make, password: str, username: str) -> None:
    registry = make(GcrRegistry, url="https://gcr.io", password=password)
    assert await login(registry, "eu.gcr.io/project/x:1") == {
        "registry": "eu.gcr.io", "username": username, "password": password,
    }  # fmt: skip
    assert registry.address("eu.gcr.io") == "https://eu.gcr.io"
    assert registry.address("") == "https://gcr.io"


async def test_googles_machines_have_tokens(make: Make) -> None:
    async with OciServer.running() as metadata:
        metadata.answers = [web.json_response({"access_token": f"ya29.{n}", "expires_in": 3599}) for n in "12"]
        address = f"{metadata.url}/computeMetadata/v1/instance/service-accounts/default/token"
        # BinderHub's class has the address as `token_url`.
        for number, options in enumerate(({"metadata_url": address}, {"token_url": address}), 1):
            registry = make(GcrRegistry, **options)
            assert await login(registry, "europe-docker.pkg.dev/p/r/x:1") == {
                "registry": "europe-docker.pkg.dev", "username": "oauth2accesstoken", "password": f"ya29.{number}",
            }  # fmt: skip
        assert {seen.headers["metadata-flavor"] for seen in metadata.seen} == {"Google"}
        metadata.answers = [web.Response(status=404)]
        with pytest.raises(ConfigError, match="JSON key of a service account"):
            await login(registry, "gcr.io/p/x:1")
        async with metadata.down():
            with pytest.raises(TransientError, match="JSON key of a service account"):
                await login(registry, "gcr.io/p/x:1")
        assert await login(make(GcrRegistry, url="https://a.example"), "a.example/x:1") is None


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("", ""),
        ("https://r.example/", "https://r.example"),
        ("r.example:5000", "https://r.example:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("http://r.example/v2/", "http://r.example"),
        ("https://r.example/artifactory/api/docker/x", "https://r.example/artifactory/api/docker/x"),
        ("https://index.docker.io/v1", "https://registry-1.docker.io"),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io"),
        ("docker.io", "https://registry-1.docker.io"),
        ("https://registry.hub.docker.com", "https://registry.hub.docker.com"),
    ],
)
def test_addresses(address: str, base: str) -> None:
    assert base_url(address) == base


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://me:word@a.example"}, {"url": "me@a.example"}, {"url": "ftp://a.example"},
        {"token_url": "https://me:word@a.example/t"}, {"image_prefix": "https://a.example/x-"},
        {"image_prefix": "a//b"}, {"retries": -1},
    ],
)  # fmt: skip
def test_options_that_are_refused(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        make(**options)
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "address", "name"),
    [
        ("python:3", "https://registry-1.docker.io", "library/python"),
        ("me/x:3", "https://registry-1.docker.io", "me/x"),
        ("r.example/x:3", "https://r.example", "x"),
        ("me/x:3", "https://r.example", "me/x"),
    ],
)
def test_docker_hubs_own_images_have_a_folder(image: str, address: str, name: str) -> None:
    assert repository(Reference.parse(image), address) == name
