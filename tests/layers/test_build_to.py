"""`ringbinder build --to` and `images rebase` with the builder itself, at the real registry and in folders."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from attrs import define
from realparts.package_index import PackageIndex
from realparts.parts import PASSWORD, RealRegistry
from realparts.program import Program
from ringbinder import Secret
from ringbinder.plugins.context import Context
from ringbinder.testing import image_registry, make_context
from ringbinder_registries.layout import OciLayoutOptions, OciLayoutRegistry
from ringbinder_registries.oci import OciRegistry
from ringbinder_server.cli.exitcodes import ExitCode

from tests.registries.test_layout import require_valid

from .smallbase import config, publish

pytestmark = pytest.mark.real("docker-registry")


@define
class Desk:
    """A person at a computer with Ringbinder, a repository, and a registry that has a base image."""

    ringbinder: Program
    index: PackageIndex
    context: Context
    registry: RealRegistry
    to: str
    """Where images go in this test."""

    @property
    def folder(self) -> Path:
        return self.ringbinder.folder / "repository"

    def write(self, **files: str) -> None:
        self.folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)

    def log_in(self) -> None:
        """As `docker login` leaves it."""
        file = self.ringbinder.folder / ".docker" / "config.json"
        file.parent.mkdir()
        auth = base64.b64encode(f"builder:{PASSWORD}".encode()).decode()
        file.write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}))

    async def publish_base(self, **more: Any) -> None:
        options = OciRegistry.Config(
            username="builder", password=Secret(PASSWORD), url=self.registry.url, image_prefix=f"{self.registry.host}/"
        )
        registry = image_registry(OciRegistry(options, self.context))
        await publish(registry, self.base.rpartition(":")[0], "1", config(**more))

    @property
    def base(self) -> str:
        return f"{self.to}-base:1"

    @property
    def env(self) -> dict[str, str]:
        return {"UV_DEFAULT_INDEX": self.index.url, "RINGBINDER__LayersBuilder__base_image": self.base}

    async def __call__(self, *arguments: object, **env: str) -> CompletedProcess[str]:
        return await asyncio.to_thread(lambda: self.ringbinder(*arguments, **self.env | env))


@pytest.fixture
async def desk(
    ringbinder: Program, index: PackageIndex, password_registry: RealRegistry, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Desk]:  # fmt: skip
    context = make_context(tmp_path / "context", "oci")
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    made = Desk(ringbinder, index, context, password_registry, f"{password_registry.host}/build-to/{name}")
    await made.publish_base()
    made.write(requirements_txt="gamma\n", a_txt="text")
    yield made
    await context.services.close()


async def test_image_goes_from_files_to_registry(desk: Desk) -> None:
    desk.log_in()
    first = await desk("build", desk.folder, "--to", desk.to)
    assert first.returncode == 0, first.stderr
    name, _, digest = first.stdout.strip().partition("@")
    assert name == f"{desk.to}:latest"
    assert PASSWORD not in first.stdout + first.stderr
    downloads = len(desk.index.requests)
    # The same content again, from another folder and without what this computer remembers.
    for folder in ("state", "cache"):
        (desk.ringbinder.folder / folder).rename(desk.ringbinder.folder / f"former-{folder}")
    again = await desk("build", desk.folder, "--to", f"{desk.to}:again", "--json")
    last = json.loads(again.stdout.splitlines()[-1])
    assert (last["phase"], last["imageDigest"]) == ("ready", digest)
    assert not [path for path, _ in desk.index.requests[downloads:] if path.endswith(".whl")], "all layers are known"


async def test_image_goes_into_a_folder_of_layers(desk: Desk) -> None:
    desk.log_in()
    pushed = await desk("build", desk.folder, "--to", desk.to)
    kept = await desk("build", desk.folder, "--to", "oci:out")
    assert kept.returncode == 0, kept.stderr
    digest = kept.stdout.strip().partition("@")[2]
    assert digest == pushed.stdout.strip().partition("@")[2], "one image, wherever it is put"
    layout = desk.ringbinder.folder / "out"
    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == digest
    manifest = json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())
    for part in (manifest["config"], *manifest["layers"]):
        content = (layout / "blobs/sha256" / part["digest"].removeprefix("sha256:")).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == part["digest"]
    text = await desk("build", desk.folder, "--to", "oci:out:other", "--json")
    lines = "".join(json.loads(line)["message"] for line in text.stdout.splitlines())
    assert re.search(r"(\d+) of \1 layers are known", lines), lines


@pytest.mark.parametrize("line", ["building  Building from", "building  Making a layer", "pushing   Pushing oci/out"])
async def test_killed_build_leaves_a_valid_folder(desk: Desk, line: str) -> None:
    desk.log_in()
    with desk.ringbinder.start("build", desk.folder, "--to", "oci:out", **desk.env) as victim:
        assert victim.stderr is not None
        for text in iter(victim.stderr.readline, ""):
            if text.startswith(line):
                break
        victim.kill()
    layouts = [desk.ringbinder.folder / "out", *(desk.ringbinder.folder / "cache" / "oci-layouts").glob("*")]
    for layout in layouts:
        if (layout / "oci-layout").exists():
            require_valid(layout)
    again = await desk("build", desk.folder, "--to", "oci:out")
    assert again.returncode == 0, again.stderr
    index = require_valid(desk.ringbinder.folder / "out")
    assert [entry["digest"] for entry in index["manifests"]] == [again.stdout.strip().partition("@")[2]]


async def test_image_is_made_of_layouts_alone(desk: Desk, tmp_path: Path) -> None:
    """Base, layers and image in folders: no registry is asked."""
    options = OciLayoutOptions(folder=tmp_path / "bases")
    await publish(image_registry(OciLayoutRegistry(options, desk.context)), "base", "1")
    repositories = json.dumps({"base": str(tmp_path / "bases" / "base")})
    done = await desk(
        "build", desk.folder, "--to", "oci:out", "--set", f"OciLayoutRegistry.repositories={repositories}",
        RINGBINDER__LayersBuilder__base_image="base:1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (desk.ringbinder.folder / "out" / "oci-layout").exists()


async def test_image_is_put_on_a_newer_base(desk: Desk) -> None:
    desk.log_in()
    for to in (desk.to, "oci:out"):
        await desk.publish_base()
        built = await desk("build", desk.folder, "--to", to)
        assert built.returncode == 0, built.stderr
        same = await desk("images", "rebase", to)
        assert same.stdout.split()[0] == "unchanged", same.stderr
        await desk.publish_base(Env=["NEW=1"])
        rebased = await desk("images", "rebase", to)
        assert rebased.returncode == 0, rebased.stderr
        state, name = rebased.stdout.split()
        assert state == "rebased"
        rebuilt = await desk("build", desk.folder, "--to", to)
        assert rebuilt.stdout.strip() == name, "the image of a build on the new base"
        await desk.publish_base(labels={"prefix": "/srv/env"})
        misfit = await desk("images", "rebase", to, "--json")
        assert misfit.returncode == 4
        [result] = json.loads(misfit.stdout)["images"]
        assert result["state"] == "does not fit"
        assert "/srv/env" in result["why"]


async def test_all_images_built_here_are_rebased(desk: Desk) -> None:
    desk.log_in()
    chosen = ["--set", "Ringbinder.builder=layers", "--set", f"BinderHub.image_prefix={desk.to}-"]
    built = await desk("build", desk.folder, *chosen)
    assert built.returncode == 0, built.stderr
    none = await desk("images", "rebase", "--all", *chosen)
    assert none.stdout.split() == ["unchanged", built.stdout.strip()]
    await desk.publish_base(Env=["NEW=1"])
    rebased = await desk("images", "rebase", "--all", *chosen)
    assert rebased.stdout.startswith(f"rebased       {built.stdout.strip()}@sha256:"), rebased.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("images", "rebase", "TO:none"), 3, "is not in its registry"),
        (("images", "rebase", "TO-base:1"), 3, "was made by no builder that can put it on another base"),
        (("images", "rebase", "--all"), 6, "`layers` can"),
        (("images", "rebase"), 2, "--all"),
        (("images", "rebase", "name"), 2, "no registry is named"),
    ],
)
async def test_wrong_rebase_is_explained(desk: Desk, arguments: tuple[str, ...], code: int, words: str) -> None:
    desk.log_in()
    done = await desk(*[part.replace("TO", desk.to) for part in arguments])
    assert done.returncode == code
    assert words in done.stderr


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("none.invalid/base:1", ExitCode.TRY_AGAIN),
        ("127.0.0.1:9/base:1", ExitCode.TRY_AGAIN),
        ("TO-none:1", ExitCode.CONFIG),
    ],
)
async def test_base_out_of_reach_is_named(desk: Desk, where: str, code: ExitCode) -> None:
    desk.log_in()
    base = where.replace("TO", desk.to)
    done = await desk("build", desk.folder, "--to", desk.to, RINGBINDER__LayersBuilder__base_image=base)
    assert done.returncode == code, done.stderr
    failed = done.stderr.partition("Failed: ")[2]
    assert f"LayersBuilder.base_image: the image {base}" in failed
    assert "internal error" not in done.stderr
    if code == ExitCode.CONFIG:
        assert "images/base" in failed, "what to do"


async def test_refused_push_is_explained(desk: Desk) -> None:
    done = await desk("build", desk.folder, "--to", desk.to)
    assert done.returncode == ExitCode.CONFIG
    assert desk.registry.host in done.stderr.partition("Failed: ")[2]


async def test_repository_for_another_builder_is_refused(desk: Desk) -> None:
    desk.log_in()
    desk.write(postBuild="#!/bin/sh\n")
    done = await desk("build", desk.folder, "--to", desk.to)
    assert done.returncode == 4
    assert "postBuild" in done.stderr
