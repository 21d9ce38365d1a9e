"""environment.yml, Pipfile and pixi, built for real: from a conda channel of our own and from the package index."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from realparts.conda_channel import PYTHON, VERSION, CondaChannel
from ringbinder.errors import BuildError, UserError
from ringbinder.model import Failure
from ringbinder.testing.kernel import open_kernel

from .conftest import PLAN, Embedded, entry_of, in_env, request

pytestmark = pytest.mark.real("uv", "jupyterlab")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> CondaChannel:
    require_real("uv")
    channel = CondaChannel(tmp_path_factory.mktemp("channel"))
    channel.add_python()
    channel.add_module("alpha", "1.0")
    channel.add_module("alpha", "2.0", depends=("python", "beta >=2"))
    channel.add_module("beta", "1.0")
    channel.add_module("beta", "2.0")
    channel.add_module("six", "1.16.0", content="__version__ = '1.16.0'\nfrom_conda = True\n")
    channel.add_files("tool", "3", {"bin/ringbinder-tool": "#!/bin/sh\necho tool 3 in $CONDA_PREFIX\n"})
    asyncio.run(channel.index())
    return channel


def environment_yml(channel: CondaChannel, *dependencies: str, pip: tuple[str, ...] = ()) -> str:
    lines = ["name: any", "channels:", f"  - {channel.url}", "  - nodefaults", "dependencies:"]
    lines += [f"  - {dependency}" for dependency in dependencies]
    lines += ["  - pip:", *(f"    - {line}" for line in pip)] if pip else []
    return "\n".join(lines) + "\n"


def of_operator(channel: CondaChannel) -> dict[str, Any]:
    """Return the options that allow `channel`, which is a folder of this machine."""
    return {"conda_channels": (channel.url,)}


async def failing(embedded: Embedded, files: dict[str, str], channel: CondaChannel | None = None) -> UserError:
    plan = embedded.plan(files)
    with pytest.raises(UserError) as caught:
        await embedded.build(plan, **(of_operator(channel) if channel else {}))
    assert await embedded.registry.check(plan, fresh=True) is None
    return caught.value


async def test_a_conda_environment_is_built_and_worked_in(embedded: Embedded, channel: CondaChannel) -> None:
    """The whole way: solve, install, the part for pip, postBuild, and a notebook in an overlay over it."""
    files = {
        "binder/environment.yml": environment_yml(channel, "alpha", "tool", "six", pip=("../mine", "idna")),
        "mine/pyproject.toml": '[project]\nname = "mine"\nversion = "1"\n[tool.setuptools]\npy-modules = ["mine"]\n',
        "mine/mine.py": "ANSWER = 42\n",
        "binder/postBuild": "ringbinder-tool > told\n",
        "requirements.txt": "ringbinder-no-such-package\n",
    }
    image = await embedded.build(embedded.plan(files), **of_operator(channel))
    assert in_env(image, "import alpha, beta; print(alpha.__version__, beta.__version__)") == "2.0 2.0", "the newest"
    assert in_env(image, "import mine, idna, six; print(mine.ANSWER, six.from_conda)") == "42 True"
    assert in_env(image, "import ipywidgets, nbconvert; print(ipywidgets.__version__[0])") == "8"
    assert in_env(image, "import sys; print(sys.prefix)") == str(entry_of(image).env.place)
    assert (entry_of(image).repo.place / "told").read_text() == f"tool 3 in {entry_of(image).env.place}\n"
    assert not list(entry_of(image).repo.place.rglob(".ringbinder-*"))

    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        assert await kernel.run("import alpha; print(alpha.__version__)") == "2.0\n"
        assert (await kernel.run("!ringbinder-tool")).startswith("tool 3 in ")
        prefix = await kernel.run("import sys; print(sys.prefix)")
        assert prefix.strip() != str(entry_of(image).env.place), "a session installs into an overlay of its own"
        assert await kernel.run("import os; print(os.path.exists(sys.executable))") == "True\n"
        await kernel.close()


async def test_pins_are_honoured(embedded: Embedded, channel: CondaChannel) -> None:
    files = {"environment.yml": environment_yml(channel, f"python={VERSION}", "alpha=1")}
    image = await embedded.build(embedded.plan(files), **of_operator(channel))
    assert in_env(image, "import alpha, platform; print(alpha.__version__, platform.python_version())") == (
        f"1.0 {PYTHON}"
    )
    assert " + alpha 1.0 0" in embedded.log.text


@pytest.mark.parametrize(
    ("dependency", "named"),
    [
        ("no-such-conda-package", "no-such-conda-package"),
        ("alpha >=3", "alpha"),
        ("python=3.5", "python"),
    ],
)
async def test_what_the_channel_does_not_have(
    embedded: Embedded, channel: CondaChannel, dependency: str, named: str
) -> None:
    plan = embedded.plan({"environment.yml": environment_yml(channel, dependency)})
    with pytest.raises(BuildError, match=r"Installation of environment\.yml failed") as caught:
        await embedded.build(plan, **of_operator(channel))
    assert named in caught.value.message
    tail = tuple(embedded.log.text.splitlines()[-50:])
    diagnosis = await embedded.builder().diagnose(Failure("build", caught.value, tail, plan))
    assert diagnosis is not None
    assert (diagnosis.code, named in diagnosis.line) == ("conda-unsolvable", True), diagnosis


async def test_alpha_2_against_beta_1(embedded: Embedded, channel: CondaChannel) -> None:
    error = await failing(embedded, {"environment.yml": environment_yml(channel, "alpha=2", "beta=1")}, channel)
    assert "beta" in error.message


async def test_a_channel_that_is_not_there(embedded: Embedded, tmp_path: Path) -> None:
    error = await failing(
        embedded,
        {"environment.yml": f"channels: [{(tmp_path / 'absent').as_uri()}]\ndependencies: [alpha]\n"},
    )
    assert "Installation of environment.yml failed" in error.message


async def test_pixi_toml(embedded: Embedded, channel: CondaChannel) -> None:
    pixi = (
        f'[workspace]\nchannels = ["{channel.url}"]\nplatforms = ["{channel.platform}"]\n'
        '[dependencies]\nalpha = "1.*"\n[pypi-dependencies]\nidna = "*"\n'
    )
    image = await embedded.build(embedded.plan({"pixi.toml": pixi}), **of_operator(channel))
    assert in_env(image, "import alpha, idna; print(alpha.__version__)") == "1.0"
    error = await failing(embedded, {"pixi.toml": pixi.replace(channel.platform, "linux-mips")}, channel)
    assert (error.code, "linux-mips" in error.message) == ("unsupported-file", True)


async def test_pixi_lock(embedded: Embedded, channel: CondaChannel) -> None:
    """The lock is taken at its word: not the newest, but what it names."""

    def package(subdir: str, name: str) -> tuple[str, str]:
        path = channel.folder / subdir / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return path.as_uri(), f"- conda: {path.as_uri()}\n  subdir: {subdir}\n  sha256: {digest}\n"

    packages = [
        package(channel.platform, f"python-{PYTHON}-0.tar.bz2"),
        package("noarch", "alpha-1.0-0.tar.bz2"),
    ]
    named = "".join(f"      - conda: {url}\n" for url, _ in packages)
    lock = (
        f"version: 6\nenvironments:\n  default:\n    channels:\n    - url: {channel.url}/\n"
        f"    packages:\n      {channel.platform}:\n{named}packages:\n{''.join(text for _, text in packages)}"
    )
    image = await embedded.build(embedded.plan({"pixi.lock": lock, "pixi.toml": ""}), **of_operator(channel))
    assert in_env(image, "import alpha; print(alpha.__version__)") == "1.0"
    error = await failing(
        embedded, {"pixi.lock": lock.replace(f"      {channel.platform}:", "      osx-arm64:")}, channel
    )
    assert "the lock file is for osx-arm64" in error.message


async def test_pipfile_lock(embedded: Embedded) -> None:
    """The hash of six 1.16.0 on PyPI: a public, unchanging fact; then a wrong one, which must not be taken."""
    digest = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    entry = {"version": "==1.16.0", "hashes": [f"sha256:{digest}"], "index": "pypi"}
    lock = {
        "_meta": {
            "requires": {"python_version": VERSION},
            "sources": [{"name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": True}],
        },
        "default": {"six": entry},
        "develop": {"idna": {"version": "==3.10", "markers": "python_version >= '3.6'"}},
    }
    files = {"Pipfile.lock": json.dumps(lock), "Pipfile": "not read"}
    image = await embedded.build(embedded.plan(files))
    assert in_env(image, "import six, idna; print(six.__version__, idna.__version__)") == "1.16.0 3.10"
    error = await failing(embedded, {"Pipfile.lock": json.dumps(lock).replace(digest, "0" * 64)})
    assert "Pipfile.lock failed" in error.message


async def test_pipfile_alone(embedded: Embedded) -> None:
    pipfile = (
        '[[source]]\nurl = "https://pypi.org/simple"\nname = "pypi"\nverify_ssl = true\n'
        '[packages]\nsix = "<1.17"\nmine = {path = "./mine", editable = true}\n[dev-packages]\nidna = "*"\n'
    )
    files = {
        "Pipfile": pipfile,
        "mine/pyproject.toml": '[project]\nname = "mine"\nversion = "1"\n[tool.setuptools]\npy-modules = ["mine"]\n',
        "mine/mine.py": "ANSWER = 42\n",
    }
    image = await embedded.build(embedded.plan(files))
    assert in_env(image, "import six, idna, mine; print(six.__version__, mine.ANSWER)") == "1.16.0 42"


async def test_a_pipfile_for_a_python_that_no_one_has(embedded: Embedded) -> None:
    error = await failing(embedded, {"Pipfile": '[packages]\n[requires]\npython_version = "3.99"\n'})
    assert error.code == "python-not-available"
    assert "Pipfile asks for Python 3.99" in error.message
