"""The builder `layers` and conda: from an environment.yml or a lock file to an image, and the image in an engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from realparts.conda_channel import PYTHON, VERSION, CondaChannel, solve
from realparts.package_index import PackageIndex
from realparts.parts import RealEngine, RealRegistry
from ringbinder.model import Declined, Image
from ringbinder.plugins.context import Context
from ringbinder.testing import make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.oci import OciRegistry

from .building import Site
from .condaenv import as_installed
from .smallbase import PREFIX, publish
from .test_conda import add_command, add_tool

ENVIRONMENT = "channels: [main]\ndependencies:\n- tool\n- command=2.0\n- pip:\n  - gamma\n"


async def channel_at(folder: Path, *, whole: bool) -> CondaChannel:
    """Return the channel ``main`` with a Python and packages; `whole`: a Python that runs anywhere."""
    channel = CondaChannel(folder / "main", "linux-64")
    if whole:
        channel.add_python(whole=True)
    else:
        channel.add("python", PYTHON, {f"bin/python{VERSION}": b"\x7fELF"}, links={"bin/python": f"python{VERSION}"})
    add_tool(channel, "conda")
    add_command(channel, "tar.bz2")
    await channel.index()
    return channel


@pytest.fixture
async def channel(index: PackageIndex, tmp_path: Path) -> CondaChannel:
    index.channels = tmp_path / "channels"
    return await channel_at(index.channels, whole=False)


@pytest.fixture
async def conda_site(
    context: Context, server: OciServer, index: PackageIndex, channel: CondaChannel
) -> AsyncIterator[Site]:
    await publish(context.registry, f"{server.host}/base", "1")
    options = {"base_image": f"{server.host}/base:1", "conda_channel_alias": f"{index.root}/conda/"}
    async with Site.open(context, f"{server.host}/binder-", **options) as site:
        yield site


async def test_image_has_the_files_that_are_installed(conda_site: Site, channel: CondaChannel, tmp_path: Path) -> None:
    image = await conda_site.build(conda_site.plan(tmp_path / "r", {"environment.yml": ENVIRONMENT, "a.txt": "1"}))
    installed = as_installed(solve(channel, ["tool", "command"], tmp_path / "s"), tmp_path / "installed", PREFIX)
    found = image.files
    expected = {f"{PREFIX}/{path}": entry for path, entry in installed.items()}
    for path, entry in expected.items():
        if entry.kind == "link":
            assert image.entries[path].linkname.encode() == entry.content
        elif "/conda-meta/" not in path:
            assert (found[path], image.entries[path].mode) == (entry.content, entry.mode)
    assert {path for path in found if "/conda-meta/" in path} == {path for path in expected if "/conda-meta/" in path}
    library = f"{PREFIX}/lib/python{VERSION}/site-packages"
    assert found[f"{library}/gamma/__init__.py"] == b"__version__ = '1.0'\n"
    assert f"{library}/ipykernel/__init__.py" in found
    kernel = json.loads(found[f"{PREFIX}/share/jupyter/kernels/python3/kernel.json"])
    assert kernel["argv"][0] == f"{PREFIX}/bin/python"
    assert (image.env["CONDA_PREFIX"], image.env.get("VIRTUAL_ENV")) == (PREFIX, None)
    assert "tool has links that lead out of the environment: share/system" in conda_site.log.text


async def test_text_commit_solves_and_makes_nothing(conda_site: Site, index: PackageIndex, tmp_path: Path) -> None:
    first = await conda_site.build(conda_site.plan(tmp_path / "r", {"environment.yml": ENVIRONMENT, "a.txt": "1"}))
    asked = len(index.requests)
    second = await conda_site.build(conda_site.plan(tmp_path / "r", {"environment.yml": ENVIRONMENT, "a.txt": "2"}))
    assert len(index.requests) == asked
    assert first.digests[:-1] == second.digests[:-1]


async def test_forged_record_is_in_no_other_environment(
    conda_site: Site, channel: CondaChannel, index: PackageIndex, tmp_path: Path
) -> None:
    """A lock file of a repository may say of a package what it likes; layers with that are its own."""
    solution = solve(channel, ["tool", "command"], tmp_path / "s")
    entries, listed = [], []
    for package in solution.packages:
        address = package.url.replace(channel.url, f"{index.root}/conda/main")
        listed.append(f"      - conda: {address}")
        entries.append(f"- conda: {address}\n  sha256: {package.sha256}\n  license: forged")
    lock = "\n".join([
        "version: 6\nenvironments:\n  default:\n    channels:",
        f"    - url: {index.root}/conda/main/\n    packages:\n      linux-64:",
        *listed, "packages:", *entries, "",
    ])  # fmt: skip
    forged = await conda_site.build(conda_site.plan(tmp_path / "a", {"pixi.lock": lock}, "a"))
    honest = await conda_site.build(conda_site.plan(tmp_path / "b", {"environment.yml": ENVIRONMENT}, "b"))
    record = f"{PREFIX}/conda-meta/tool-1.0-0.json"
    assert json.loads(forged.files[record])["license"] == "forged"
    assert "license" not in json.loads(honest.files[record])


async def test_channel_of_another_host_is_declined(conda_site: Site, tmp_path: Path) -> None:
    text = "channels: ['https://evil.example/x']\ndependencies: [tool]\n"
    answer = await conda_site.answer(conda_site.plan(tmp_path / "r", {"environment.yml": text}))
    assert isinstance(answer, Declined)
    assert "evil.example/x" in answer.reason


@pytest.mark.real("dockerd", "docker-registry", "debootstrap", "jupyterlab")
@pytest.mark.timeout(900)
async def test_conda_environment_runs_in_an_engine(
    docker_engine: RealEngine,
    docker: Callable[..., str],
    layers_base: str,
    open_registry: RealRegistry,
    index: PackageIndex,
    tmp_path: Path,
) -> None:
    index.channels = tmp_path / "channels"
    await channel_at(index.channels, whole=True)
    prefix = f"{open_registry.host}/conda-engine-"
    no_config = tmp_path / "no-config.json"
    registry = OciRegistry.Config(url=open_registry.url, image_prefix=prefix, docker_config_path=no_config)
    options = {"base_image": layers_base, "conda_channel_alias": f"{index.root}/conda/", "compression": "gzip"}
    async with AsyncExitStack() as stack:
        own = make_context(tmp_path, "oci")
        stack.push_async_callback(own.services.close)
        context = make_context(tmp_path, "layers", registry=OciRegistry(registry, own))
        stack.push_async_callback(context.services.close)
        site = await stack.enter_async_context(Site.open(context, prefix, **options))
        plan = site.plan(tmp_path / "r", {"environment.yml": ENVIRONMENT})
        image = await site.answer(plan)
    assert isinstance(image, Image)
    docker_engine.pull(plan.image)
    script = (
        "which python; $CONDA_PREFIX/bin/command && echo called; python -c 'import command, sys; print(sys.prefix)'; "
        "head -1 $(which run); readlink $CONDA_PREFIX/lib/libx.so; ls -ld $CONDA_PREFIX | cut -d' ' -f3; "
        "touch $CONDA_PREFIX/lib/new && bash -lc 'echo tool=$TOOL'"
    )
    # The tests' Python is this machine's, which may look for its library at its own place alone.
    library = f"--env=LD_LIBRARY_PATH={PREFIX}/lib"
    printed = docker("run", "--rm", "--network=host", library, plan.image, "bash", "-ec", script)
    assert printed.splitlines() == [
        f"{PREFIX}/bin/python", "called", PREFIX, f"#!{PREFIX}/bin/python -E", "libx.so.1", "jovyan", "tool=1",
    ]  # fmt: skip
