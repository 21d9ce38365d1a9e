"""`ringbinder build --to`: an image into a registry or a folder, with nothing configured and with a configuration.

What is tested is where images, layers and credentials go; a builder of the test's own takes the place of `layers`.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from realparts.parts import PASSWORD, RealRegistry
from ringbinder.config.loading import load
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.layout import OciLayoutOptions
from ringbinder_server.cli.destination import Destination
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

BUILDER = '''
import json
from attrs import frozen
from ringbinder import Builder, Descriptor, Image, Manifest, digest_of, option
from ringbinder.image_reference import Reference

OCI = "application/vnd.oci.image"

@frozen
class Options:
    image_prefix: str = option("", also="BinderHub.image_prefix", help="x")
    content: str = option("first", help="x")
    base_image: str = option("", help="x")

class Layers(Builder[Options]):
    """Makes an image of one layer, which it keeps in the repository for layers first."""

    Config = Options
    sections = ("LayersBuilder",)
    makes = "oci"

    async def build(self, plan, target, log):
        registry, reference = self.context.registry, Reference.parse(target.reference)
        log.line(f"building {plan.repo.url}\\n")
        if self.config.base_image:
            base = Reference.parse(self.config.base_image)
            log.line(f"base: {await registry.read_manifest(base.name, base.tag)}\\n")
        content, config = self.config.content.encode(), b"{}"
        layer = Descriptor(f"{OCI}.layer.v1.tar", digest_of(content), len(content))
        about = Descriptor(f"{OCI}.config.v1+json", digest_of(config), len(config))
        layers = f"{self.config.image_prefix}layers"
        await registry.put_blob(layers, layer, content)
        log.line(f"copied: {await registry.copy_blob(layer, layers, reference.name)}\\n")
        await registry.put_blob(reference.name, about, config)
        parts = [{"mediaType": d.media_type, "digest": d.digest, "size": d.size} for d in (about, layer)]
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": parts[0], "layers": parts[1:]}
        pushed = Manifest(f"{OCI}.manifest.v1+json", json.dumps(manifest).encode())
        digest = (await registry.put_manifest(reference.name, reference.tag, pushed)).digest
        return Image(plan.image, "oci", digest=digest, pushed=True)
'''


@pytest.fixture
def env(ringbinder: Program) -> dict[str, str]:
    """Where the program finds the test's builder, and no login of this machine."""
    site = ringbinder.folder / "site"
    metadata = site / "own_builder-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "own_builder.py").write_text(BUILDER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-builder\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ringbinder.builders]\nlayers = own_builder:Layers\n")
    # Ours is put aside: what it needs has tests of its own.
    disabled = json.dumps(["ringbinder:layers"])
    return {"PYTHONPATH": str(site), "RINGBINDER__Ringbinder__disabled_plugins": disabled}


@pytest.fixture
def folder(ringbinder: Program) -> Path:
    content = ringbinder.folder / "repository"
    content.mkdir()
    (content / "a.txt").write_text("a")
    return content


def log_in(ringbinder: Program, host: str, password: str = PASSWORD) -> None:
    """As `docker login` leaves it."""
    file = ringbinder.folder / ".docker" / "config.json"
    file.parent.mkdir()
    auth = base64.b64encode(f"builder:{password}".encode()).decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def digests(layout: Path) -> dict[str, str]:
    """The tags of an image layout, each with its digest."""
    index = json.loads((layout / "index.json").read_bytes())
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index["manifests"]}


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("ghcr.io/you/name", "ghcr.io/you/name:latest"),
        ("127.0.0.1:5000/name:1.0", "127.0.0.1:5000/name:1.0"),
        ("you/name", "you/name:latest"),
        ("oci:/tmp/My Images:2", "oci/my-images:2"),
        ("oci:/tmp/x:y/z", "oci/z:latest"),
    ],
)
def test_destination_is_understood(text: str, image: str) -> None:
    assert Destination.parse(text).image == image


@pytest.mark.parametrize("text", ["name", "ghcr.io/you/Name", f"ghcr.io/you/name@sha256:{'0' * 64}", "oci:", "", "a b"])
def test_wrong_destination_is_wrong_usage(ringbinder: Program, text: str) -> None:
    done = ringbinder("build", ".", "--to", text)
    assert done.returncode == 2
    assert "--to" in done.stderr


async def test_image_and_layers_are_in_the_registry(ringbinder: Program, env: dict[str, str], folder: Path) -> None:
    async with OciServer.running() as server:
        done = await _aside(ringbinder, "build", folder, "--to", f"{server.host}/you/name", **env)
        assert done.returncode == 0, done.stderr
        name, _, digest = done.stdout.strip().partition("@")
        assert name == f"{server.host}/you/name:latest"
        assert digest.startswith("sha256:")
        assert server.tags("you/name") == ["latest"]
        assert "copied: mounted" in done.stderr
        again = await _aside(
            ringbinder, "build", folder, "--to", name, "--set", "LayersBuilder.content=second", "--json", **env
        )
        last = json.loads(again.stdout.splitlines()[-1])
        assert (last["phase"], last["imageName"]) == ("ready", name)
        assert last["imageDigest"] not in ("", digest), "what was there under the tag is replaced"


async def _aside(ringbinder: Program, *arguments: object, **env: str) -> Any:
    return await asyncio.to_thread(lambda: ringbinder(*arguments, **env))


@pytest.mark.real("docker-registry")
def test_credentials_are_those_of_docker_login(
    ringbinder: Program, env: dict[str, str], folder: Path, password_registry: RealRegistry
) -> None:
    to = f"{password_registry.host}/of-build-to/login"
    refused = ringbinder("build", folder, "--to", to, **env)
    assert refused.returncode == ExitCode.CONFIG
    assert password_registry.host in refused.stderr
    log_in(ringbinder, password_registry.host)
    done = ringbinder("build", folder, "--to", to, "-vv", **env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{to}:latest@sha256:")
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.real("docker-registry")
def test_configuration_of_that_registry_holds(
    ringbinder: Program, env: dict[str, str], folder: Path, password_registry: RealRegistry
) -> None:
    host = password_registry.host
    file = ringbinder.folder / "ringbinder.yaml"
    options = {"username": "builder", "password": PASSWORD}
    file.write_text(json.dumps({"BinderHub": {"image_prefix": f"{host}/shared-"}, "DockerRegistry": options}))
    for name in ("first", "second"):
        done = ringbinder("build", folder, "-c", file, "--to", f"{host}/of-build-to/{name}", **env)
        assert done.returncode == 0, done.stderr
    repositories = password_registry.data / "docker/registry/v2/repositories"
    assert (repositories / "shared-layers").is_dir()
    assert not (repositories / "of-build-to" / "first-layers").exists()


LOGIN = {"username": "builder", "password": PASSWORD}


@pytest.mark.real("docker-registry")
@pytest.mark.parametrize("registry", [{}, {"Ringbinder": {"registry": "oci"}}], ids=["chosen", "named"])
@pytest.mark.parametrize(
    "theirs",
    [
        {"BinderHub": {"image_prefix": "registry.example/x-"}, "DockerRegistry": LOGIN},
        {"DockerRegistry": {"url": "https://registry.example", **LOGIN}},
        {"DockerRegistry": LOGIN},
        {"registry": {"url": "https://registry.example", **LOGIN}},
        {"registry": LOGIN},
    ],
    ids=["prefix", "url", "Docker Hub", "chart", "chart for Docker Hub"],
)
def test_password_of_another_registry_stays_here(
    ringbinder: Program, env: dict[str, str], folder: Path, password_registry: RealRegistry,
    theirs: dict[str, Any], registry: dict[str, Any],
) -> None:  # fmt: skip
    """Not even sent, though it would open the door; docker's login does."""
    file = ringbinder.folder / "other.yaml"
    file.write_text(json.dumps({**theirs, "config": registry} if "registry" in theirs else {**theirs, **registry}))
    arguments = ["build", folder, "-c", file, "--to", f"{password_registry.host}/of-build-to/other"]
    refused = ringbinder(*arguments, **env)
    assert refused.returncode == ExitCode.CONFIG, refused.stdout
    assert password_registry.host in refused.stderr
    log_in(ringbinder, password_registry.host)
    assert ringbinder(*arguments, **env).returncode == 0


def test_password_for_a_prefix_stays_with_its_host(tmp_path: Path) -> None:
    """A folder has no host, and a password without one would be Docker Hub's."""
    file = tmp_path / "other.yaml"
    file.write_text(json.dumps({"BinderHub": {"image_prefix": "registry.example/x-"}, "DockerRegistry": LOGIN}))
    sets = Destination.parse("oci:out").sets(load([file], environ={}))
    options = load([file], environ={}, sets=sets).sections.fill(
        OciLayoutOptions, ["DockerRegistry", "OciLayoutRegistry"]
    )
    assert (options.url, options.image_prefix) == ("registry.example", "")


@pytest.mark.real("docker-registry")
def test_layout_becomes_what_the_registry_has(
    ringbinder: Program, env: dict[str, str], folder: Path, open_registry: RealRegistry
) -> None:
    pushed = ringbinder("build", folder, "--to", f"{open_registry.host}/of-build-to/twin", **env)
    kept = ringbinder("build", folder, "--to", "oci:twin", **env)
    digest = kept.stdout.strip().partition("@")[2]
    assert pushed.stdout.strip().partition("@")[2] == digest
    assert digests(ringbinder.folder / "twin") == {"latest": digest}


def test_folder_becomes_a_layout(ringbinder: Program, env: dict[str, str], folder: Path) -> None:
    for tag, content in (("1", "first"), ("2", "second")):
        done = ringbinder(
            "build", folder, "--to", f"oci:out/image:{tag}", "--set", f"LayersBuilder.content={content}", **env
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"oci:{ringbinder.folder}/out/image:{tag}@sha256:")
    layout = ringbinder.folder / "out" / "image"
    assert set(digests(layout)) == {"1", "2"}
    assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]
    assert (ringbinder.folder / "cache" / "oci-layouts" / "layers" / "blobs").is_dir(), "layers are kept for the next"


def test_folder_with_other_files_is_not_written_to(ringbinder: Program, env: dict[str, str], folder: Path) -> None:
    done = ringbinder("build", folder, "--to", "oci:repository", **env)
    assert done.returncode != 0
    assert "no OCI image layout" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_configuration_of_the_embedded_mode_is_no_hindrance(
    ringbinder: Program, env: dict[str, str], folder: Path
) -> None:
    chosen = [f"--set=Ringbinder.{kind}=local" for kind in ("builder", "registry", "launcher")]
    done = ringbinder("build", folder, *chosen, "--to", "oci:out", **env)
    assert done.returncode == 0, done.stderr
