"""The real registry and the real engine: pushed to, looked at, refused by, and told by the doctor."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import tarfile
from typing import Any

import pytest
from attrs import evolve
from realparts.parts import PASSWORD, RealEngine, RealRegistry
from ringbinder.errors import ConfigError, PluginError, TransientError
from ringbinder.model import Descriptor, Image, digest_of
from ringbinder.testing import RecordingLog, image_registry
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.gcr import GcrRegistry
from ringbinder_registries.oci import OciRegistry

from .conftest import Make, plan

pytestmark = pytest.mark.real("docker-registry", "dockerd")

_numbers = itertools.count()


async def push(registry: OciRegistry[Any], engine: RealEngine, name: str, layers: bytes = b"") -> Image:
    """Makes an image and takes it through the hooks that core calls."""
    log = RecordingLog()
    await asyncio.to_thread(engine.make_image, name, layers or str(next(_numbers)).encode())
    target = await registry.target(plan(name))
    assert await registry.check(plan(name), fresh=True) is None
    pushed = await registry.push(Image(name, "oci"), target, log)
    assert pushed.pushed
    assert log.layers, "no progress was told"
    assert all(
        state in ("Pushed", "Layer already exists") or state.startswith("Mounted from")
        for state in log.layers[-1].values()
    )
    assert f"Successfully pushed {name}" in log.text
    assert PASSWORD not in log.text
    found = await registry.check(plan(name), fresh=True)
    assert found is not None
    assert found.digest == pushed.digest
    assert found.digest.startswith("sha256:")
    return found


@pytest.mark.parametrize("path", ["x", "a/x", "a/b/c/d/x"])
async def test_open(open_registry: RealRegistry, docker_engine: RealEngine, make: Make, path: str) -> None:
    registry = make(docker_host=docker_engine.address)
    await push(registry, docker_engine, f"{open_registry.host}/{path}:1")
    assert await registry.check(plan(f"{open_registry.host}/{path}:2"), fresh=True) is None
    assert await registry.check(plan(f"{open_registry.host}/{path}/other:1"), fresh=True) is None


async def test_password(password_registry: RealRegistry, docker_engine: RealEngine, make: Make) -> None:
    host = password_registry.host
    options = {"url": password_registry.url, "username": "builder", "docker_host": docker_engine.address}
    right = make(password=PASSWORD, **options)
    await push(right, docker_engine, f"{host}/x:1")
    wrong = make(password="another-word", **options)
    with pytest.raises(ConfigError, match="HTTP status 401"):
        await wrong.check(plan(f"{host}/x:1"), fresh=True)
    with pytest.raises(ConfigError, match="does not let us push") as caught:
        await wrong.push(Image(f"{host}/x:1", "oci"), await wrong.target(plan(f"{host}/x:1")), RecordingLog())
    assert "another-word" not in str(caught.value)


@pytest.mark.parametrize("behaviour", ["hub", "strict"])
async def test_token(token_registry: Any, docker_engine: RealEngine, make: Make, behaviour: Any) -> None:
    guarded = token_registry(behaviour)
    host = guarded.registry.host
    kind = DockerHubRegistry if behaviour == "hub" else OciRegistry
    options = {
        "url": guarded.registry.url, "username": "builder", "docker_host": docker_engine.address,
        "not_found_401": True if behaviour == "hub" else None,
    }  # fmt: skip
    right = make(kind, password=PASSWORD, **options)
    await push(right, docker_engine, f"{host}/builder/x:1")
    assert "repository:builder/x:pull" in guarded.tokens.scopes
    wrong = make(kind, password="another-word", **options)
    with pytest.raises(ConfigError, match="does not accept the password of builder"):
        await wrong.check(plan(f"{host}/builder/x:1"), fresh=True)
    if behaviour == "hub":  # what is not ours is told as if it were not there
        assert await right.check(plan(f"{host}/somebody/x:1"), fresh=True) is None
        assert await make(kind, **options).check(plan(f"{host}/builder/x:1"), fresh=True) is None
    else:
        with pytest.raises(ConfigError, match="wants a user name and a password"):
            await make(kind, **options).check(plan(f"{host}/builder/x:1"), fresh=True)


@pytest.mark.parametrize("password", ['{"a": "key"}', "ya29.access"])
async def test_google(token_registry: Any, docker_engine: RealEngine, make: Make, password: str) -> None:
    guarded = token_registry("gcr")
    registry = make(GcrRegistry, password=password, url=guarded.registry.url, docker_host=docker_engine.address)
    await push(registry, docker_engine, f"{guarded.registry.host}/project/x-{len(password)}:1")


async def test_a_second_push_shows_what_is_there_already(
    open_registry: RealRegistry, docker_engine: RealEngine, make: Make
) -> None:
    registry = make(docker_host=docker_engine.address)
    name = f"{open_registry.host}/twice:1"
    await push(registry, docker_engine, name)
    log = RecordingLog()
    await registry.push(Image(name, "oci"), await registry.target(plan(name)), log)
    assert set(log.layers[-1].values()) == {"Layer already exists"}


async def test_bytes_are_reported_while_a_large_layer_is_pushed(
    open_registry: RealRegistry, docker_engine: RealEngine, make: Make
) -> None:
    registry = make(docker_host=docker_engine.address)
    name, log = f"{open_registry.host}/large:1", RecordingLog()
    await asyncio.to_thread(docker_engine.make_image, name, b"\0" * 2**28)
    await registry.push(Image(name, "oci"), await registry.target(plan(name)), log)
    states = [state for layers in log.layers for state in layers.values() if isinstance(state, dict)]
    assert states
    assert all(0 <= state["current"] <= state["total"] for state in states)
    assert all(set(state) == {"current", "total"} for state in states)


async def test_an_image_that_the_engine_does_not_have(
    open_registry: RealRegistry, docker_engine: RealEngine, make: Make
) -> None:
    name = f"{open_registry.host}/nothing:1"
    registry = make(docker_host=docker_engine.address)
    with pytest.raises(PluginError, match="has no image"):
        await registry.push(Image(name, "oci"), await registry.target(plan(name)), RecordingLog())


async def test_no_engine_and_no_registry(docker_engine: RealEngine, make: Make, unused_tcp_port: int) -> None:
    name = f"127.0.0.1:{unused_tcp_port}/x:1"
    target = await make().target(plan(name))
    await asyncio.to_thread(docker_engine.make_image, name, b"x")
    nowhere = make(docker_host="unix:///nowhere/docker.sock")
    with pytest.raises(TransientError, match=r"engine at unix:///nowhere/docker\.sock did not answer"):
        await nowhere.push(Image(name, "oci"), target, RecordingLog())
    with pytest.raises(TransientError, match=f"Pushing {name} to 127.0.0.1:{unused_tcp_port} failed"):
        await make(docker_host=docker_engine.address).push(Image(name, "oci"), target, RecordingLog())


async def test_all_four_kinds_of_manifest(open_registry: RealRegistry, docker_engine: RealEngine, make: Make) -> None:
    """An index of one image, in docker's and in OCI's words: found, with the digest that it was put with."""
    registry = make(docker_host=docker_engine.address)
    image = await push(registry, docker_engine, f"{open_registry.host}/kinds:docker")
    http, url = registry.context.http, f"{open_registry.url}/v2/kinds/manifests"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = await http.get(f"{url}/docker", headers={"Accept": kind})
    about = {"mediaType": kind, "digest": image.digest, "size": len(manifest.content)}
    oci = "application/vnd.oci.image"
    of_oci = json.loads(manifest.text) | {"mediaType": f"{oci}.manifest.v1+json"}
    of_oci["config"]["mediaType"] = f"{oci}.config.v1+json"
    of_oci["layers"][0]["mediaType"] = f"{oci}.layer.v1.tar+gzip"
    platform = {"platform": {"architecture": "amd64", "os": "linux"}}
    index = {"schemaVersion": 2, "manifests": [about | platform]}
    lists = "application/vnd.docker.distribution.manifest.list.v2+json"
    for tag, content, media in (
        ("oci", of_oci, f"{oci}.manifest.v1+json"),
        ("list", {**index, "mediaType": lists}, lists),
        ("index", {**index, "mediaType": f"{oci}.index.v1+json"}, f"{oci}.index.v1+json"),
    ):
        put = await http.put(f"{url}/{tag}", content=json.dumps(content), headers={"Content-Type": media})
        assert put.status_code == 201, put.text
        found = await registry.check(plan(f"{open_registry.host}/kinds:{tag}"), fresh=True)
        assert found is not None
        assert found.digest == put.headers["docker-content-digest"]


async def test_doctor(password_registry: RealRegistry, token_registry: Any, make: Make) -> None:
    for running in (password_registry, token_registry("strict").registry, token_registry("hub").registry):
        options = {"image_prefix": f"{running.host}/builder/x-", "username": "builder"}
        findings = await make(password=PASSWORD, url=running.url, **options).doctor()
        assert [finding.level for finding in findings] == ["ok"] * 3, findings
        assert "accepts builder" in findings[1].message
        assert "lets us push to builder/x-ringbinder-doctor" in findings[2].message
        findings = await make(password="another-word", url=running.url, **options).doctor()
        assert [finding.level for finding in findings] == ["ok", "error"], findings
        assert findings[1].fix
        assert not any(word in str(findings) for word in (PASSWORD, "another-word"))


async def test_assembled_image_is_pulled_by_an_engine(
    open_registry: RealRegistry, docker_engine: RealEngine, make: Make
) -> None:
    """A layer more on an image that docker has pushed, put together without an engine."""
    registry = make(docker_host=docker_engine.address)
    base, repository = f"{open_registry.host}/assembled-base", f"{open_registry.host}/assembled"
    await push(registry, docker_engine, f"{base}:1", b"of the base")
    blobs = image_registry(registry)
    manifest = await blobs.read_manifest(base, "1")
    assert manifest
    about = json.loads(manifest.content)
    layers = [Descriptor(layer["mediaType"], layer["digest"], layer["size"]) for layer in about["layers"]]
    of_config = Descriptor(about["config"]["mediaType"], about["config"]["digest"], about["config"]["size"])
    config = json.loads(await blobs.read_small_blob(base, of_config))
    assert [await blobs.copy_blob(layer, base, repository) for layer in layers] == ["mounted"]

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("added"))
    config["rootfs"]["diff_ids"].append(digest_of(archive.getvalue()))
    config.pop("history", None)
    for kind, content in (
        (layers[0].media_type, gzip.compress(archive.getvalue())),
        (of_config.media_type, json.dumps(config).encode()),
    ):
        blob = Descriptor(kind, digest_of(content), len(content))
        assert await blobs.put_blob(repository, blob, content) == "uploaded"
        described = {"mediaType": kind, "digest": blob.digest, "size": blob.size}
        if kind == of_config.media_type:
            about["config"] = described
        else:
            about["layers"].append(described)
    await blobs.put_manifest(repository, "1", evolve(manifest, content=json.dumps(about).encode()))

    found = await registry.check(plan(f"{repository}:1"), fresh=True)
    assert found is not None
    pulled = await asyncio.to_thread(docker_engine.pull, f"{repository}:1")
    assert pulled["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
