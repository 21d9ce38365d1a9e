"""`ringbinder doctor`, over a registry in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ringbinder.testing.ociregistry import OciServer

_USERS = {"builder": "s3cret-word"}


def choice(server: OciServer, password: str = "s3cret-word") -> list[str]:
    options = {
        "Ringbinder.builder": "fake", "Ringbinder.launcher": "fake", "Ringbinder.registry": "oci",
        "DockerRegistry.url": server.url, "DockerRegistry.username": "builder",
        "DockerRegistry.password": password, "BinderHub.image_prefix": f"{server.host}/binder-",
        "DockerRegistry.retries": 0,
        # These ask servers on the internet.
        "Ringbinder.disabled_plugins": "[gh, gl, gist, zenodo]",
    }  # fmt: skip
    return [part for name, value in options.items() for part in ("--set", f"{name}={value}")]


async def test_all_is_well(ringbinder: Any) -> None:
    async with OciServer.running("token", _USERS) as server:
        done = await asyncio.to_thread(ringbinder, "doctor", *choice(server))
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if "registry:oci" in line]
        assert len(lines) == 3
        assert all(line.startswith("ok ") for line in lines)
        assert "is reachable" in lines[0]
        assert "accepts builder" in lines[1]
        assert "lets us push to binder-ringbinder-doctor" in lines[2]
        assert server.uploads == 0
        assert server.asked("POST", "/blobs/uploads/")
        assert server.asked("DELETE", "/blobs/uploads/")


async def test_builder_of_layers_examines_its_base(ringbinder: Any) -> None:
    async with OciServer.running("token", _USERS) as server:
        chosen = [*choice(server), "--set", "Ringbinder.builder=layers"]
        chosen += ["--set", f"LayersBuilder.base_image={server.host}/base:1"]
        done = await asyncio.to_thread(ringbinder, "doctor", "--json", *chosen)
    [base] = [line for line in json.loads(done.stdout) if line["plugin"] == "builder:layers"]
    assert base["level"] == "error"
    assert f"LayersBuilder.base_image: the image {server.host}/base:1 is not in its registry" in base["message"]
    assert "make one of images/base" in base["fix"]


async def test_a_wrong_password(ringbinder: Any) -> None:
    async with OciServer.running("token", _USERS) as server:
        done = await asyncio.to_thread(ringbinder, "doctor", "--json", *choice(server, "another-word"))
    assert done.returncode == 6, done.stderr
    [reachable, refused] = [line for line in json.loads(done.stdout) if line["plugin"] == "registry:oci"]
    assert reachable["level"] == "ok"
    assert refused["level"] == "error"
    assert "does not accept the password of builder" in refused["message"]
    assert "DockerRegistry.username" in refused["fix"]
    assert "another-word" not in done.stdout + done.stderr


async def test_no_registry(ringbinder: Any) -> None:
    async with OciServer.running() as server:
        arguments = choice(server)
    done = await asyncio.to_thread(ringbinder, "doctor", *arguments)
    assert done.returncode == 6, done.stderr
    assert f"ERROR   registry:oci: The registry {server.host} did not answer" in done.stdout
    assert "to fix it: check DockerRegistry.url" in done.stdout


async def test_part_not_installed_leaves_the_rest_working(ringbinder: Any) -> None:
    async with OciServer.running("token", _USERS) as server:
        arguments = [*choice(server), "--set", "Ringbinder.builder=not-installed"]
        done = await asyncio.to_thread(ringbinder, "doctor", *arguments)
    assert done.returncode == 6, done.stderr
    assert 'ERROR   configuration: Ringbinder.builder: no builder "not-installed" is installed' in done.stdout
    assert "ok      registry:oci" in done.stdout
