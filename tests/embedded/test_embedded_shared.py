"""Environments that images of several commits and repositories share, made for real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from ringbinder.folder_image import FolderImage
from ringbinder.testing import folder_plan
from ringbinder.testing.kernel import open_kernel
from ringbinder.untrusted import UntrustedTree
from ringbinder_embedded import requested
from ringbinder_embedded.shared import damage
from ringbinder_recipe import recipe
from ringbinder_recipe.request import EnvironmentRequest

from .conftest import PLAN, Embedded, entry_of, in_env, request

real = pytest.mark.real("uv", "jupyterlab")
PINNED = {"requirements.txt": "six==1.16.0\n"}
PROJECT = '[project]\nname = "p"\nversion = "1"\n'
LOCK = 'version = 1\n[[package]]\nname = "p"\nsource = { virtual = "." }\n[[package]]\nname = "six"\nsource = { %s }\n'
INDEX = 'registry = "https://pypi.org/simple"'


def asked(folder: Path, files: Mapping[str, str | bytes]) -> EnvironmentRequest | None:
    folder_plan(folder, files)
    tree = UntrustedTree(folder)
    return requested.read(tree, recipe.read(tree), frozenset({"PASSED"}), ("conda-forge", "file:///channel"))


@pytest.mark.parametrize(
    "files",
    [
        {},
        PINNED,
        PINNED | {"start": "#!/bin/sh\n", "runtime.txt": "python-3.11\n", "pyproject.toml": "[tool.ruff]\n"},
        {"pyproject.toml": PROJECT + 'dependencies = ["six"]\n[tool.uv]\nresolution = "lowest"\n'},
        {"pyproject.toml": PROJECT, "uv.lock": LOCK % INDEX},
        {"environment.yml": "channels: [file:///channel, nodefaults]\ndependencies: [a, pip: [six]]\n"},
        {"Pipfile.lock": json.dumps({"_meta": {}, "default": {"six": {"version": "==1.16.0"}}})},
    ],
    ids=["nothing", "requirements", "more files", "pyproject.toml", "uv.lock", "environment.yml", "Pipfile.lock"],
)
def test_what_needs_no_code_is_shared(tmp_path: Path, files: dict[str, str]) -> None:
    assert asked(tmp_path, files) is not None


@pytest.mark.parametrize(
    "files",
    [
        PINNED | {"postBuild": "#!/bin/sh\n"},
        {"requirements.txt": "./mine\n", "mine/setup.py": ""},
        {"requirements.txt": "--index-url https://example.org/${PASSED}\n"},
        {"requirements.txt": "-r absent.txt\n"},
        PINNED | {"uv.toml": "offline = true\n"},
        PINNED | {"pyproject.toml": "[tool.uv]\noffline = true\n"},
        {"binder/environment.yml": "dependencies: [a]\n", "binder/uv.toml": ""},
        {"environment.yml": "channels: [./channel]\ndependencies: [a]\n"},
        {"environment.yml": "channels: ['file:///other']\ndependencies: [a]\n"},
        {"pyproject.toml": PROJECT + '[build-system]\nrequires = ["hatchling"]\n', "uv.lock": LOCK % INDEX},
        {"pyproject.toml": PROJECT + "[tool.uv]\npackage = true\n", "uv.lock": LOCK % INDEX},
        {"pyproject.toml": PROJECT, "uv.lock": LOCK % 'git = "https://example.org/six"'},
        {"pyproject.toml": PROJECT, "uv.lock": LOCK % 'directory = "mine"'},
        {"pyproject.toml": PROJECT, "uv.lock": LOCK % 'registry = "mine"'},
        {"pyproject.toml": PROJECT, "uv.lock": "package = 1\n"},
        {"pyproject.toml": PROJECT, "uv.lock": "["},
    ],
)  # fmt: skip
def test_what_needs_more_is_not_shared(tmp_path: Path, files: dict[str, str]) -> None:
    assert asked(tmp_path, files) is None


@real
@pytest.mark.slow
async def test_text_commit_uses_the_environment_again(apart: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await built(apart, PINNED | {"text.md": "one"})
    environment = environment_of(first)
    apart.log.lines.clear()
    second = await built(apart, PINNED | {"text.md": "two", "data/more.csv": "1,2\n"})
    assert (second.environment, second.env.place) == (environment, environment.box.place / "env")
    assert not second.box.is_folder("env")
    assert second.repo.read_text("text.md", 10) == "two"
    assert "Using an environment that is there already" in apart.log.text
    assert "six" not in apart.log.text, "nothing is installed"

    repository = await built(apart, {"binder/requirements.txt": "# ours\nsix==1.16.0\n", "start": "#!/bin/sh\n"})
    assert repository.environment == environment
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2025-06-01")
    set_otherwise = await built(apart, PINNED)
    assert set_otherwise.environment not in (None, environment)


@real
async def test_source_distribution_is_not_shared(apart: Embedded) -> None:
    image = await built(apart, {"requirements.txt": "docopt==0.6.2\n"})
    assert image.environment is None
    assert image.box.is_folder("env")
    assert list((apart.state / "environments").iterdir()) == []
    assert "no usable wheels" not in apart.log.text
    assert "The environment is made for this image alone: not all of it is to be had as wheels" in apart.log.text


@real
async def test_locked_project_is_shared(apart: Embedded) -> None:
    lock = (
        'version = 1\nrequires-python = ">=3.11"\n[[package]]\nname = "p"\nversion = "1"\nsource = { virtual = "." }\n'
        'dependencies = [{ name = "six" }]\n[[package]]\nname = "six"\nversion = "1.16.0"\n'
        f"source = {{ {INDEX} }}\nwheels = [{{ url = "
        '"https://files.pythonhosted.org/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/'
        'six-1.16.0-py2.py3-none-any.whl", '
        'hash = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254" }]\n'
    )
    project = PROJECT + 'requires-python = ">=3.11"\ndependencies = ["six"]\n'
    image = await apart.build(apart.plan({"pyproject.toml": project, "uv.lock": lock}))
    assert entry_of(image).environment is not None
    assert in_env(image, "import six, ipykernel; print(six.__version__)") == "1.16.0"


@real
@pytest.mark.slow
async def test_notebook_keeps_completes_and_judges_it(embedded: Embedded) -> None:
    plan = embedded.plan({"requirements.txt": "six==1.16.0\niniconfig==2.0.0\n"})
    image = await embedded.build(plan)
    environment = environment_of(entry_of(image))
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        assert environment.in_use()
        (running,) = launcher._running.values()
        assert running.settling is not None
        await running.settling
        assert environment.is_settled()
        assert damage(environment) == ""
        await launcher.stop(server)
        assert not environment.in_use()

        server = await launcher.launch(image, request(), PLAN, embedded.log)
        next(environment.env.place.rglob("six.py")).unlink()
        await launcher.stop(server)
    assert await embedded.registry.check(plan, fresh=True) is None
    assert in_env(await embedded.build(plan), "import six; print(six.__version__)") == "1.16.0"


@real
@pytest.mark.slow
@pytest.mark.real("bwrap")
async def test_sandboxed_environment_is_apart(embedded: Embedded) -> None:
    files = {"requirements.txt": "six==1.16.0\nattrs==25.3.0\n"}
    free = await built(embedded, files)
    await built(embedded, files | {"text": "boxed"}, sandbox="required")
    image = await embedded.build(embedded.plan(files | {"text": "again"}), sandbox="required")
    environment = environment_of(entry_of(image))
    assert environment != free.environment
    assert embedded.log.text.count("Using an environment that is there already") == 1
    launcher = embedded.launcher(sandbox="required")
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        assert await kernel.run("import six; print(six.__version__)") == "1.16.0\n"
        write = f"open({str(environment.env.place / 'new')!r}, 'w')"
        assert "Read-only file system" in await kernel.run(f"try: {write}\nexcept OSError as error: print(error)")
        await kernel.close()


def test_key_has_no_credentials() -> None:
    settings = {"UV_INDEX": "corp=https://me:secret@example.org/simple", "UV_CACHE_DIR": "/a"}
    settings |= {"UV_PUBLISH_TOKEN": "secret", "UV_INDEX_CORP_PASSWORD": "secret", "OTHER": "secret"}
    assert requested.settings_of(settings)[0] == {"UV_INDEX": "corp=https://example.org/simple"}


async def built(embedded: Embedded, files: Mapping[str, str | bytes], **options: object) -> FolderImage:
    return entry_of(await embedded.build(embedded.plan(files), **options))


def environment_of(image: FolderImage) -> FolderImage:
    assert image.environment is not None
    return image.environment


@pytest.mark.parametrize("variable", ["UV_CONFIG_FILE", "XDG_CONFIG_HOME"])
def test_configuration_of_uv_decides_the_environment(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "uv" / "uv.toml"
    file.parent.mkdir()
    env = {variable: str(file if variable == "UV_CONFIG_FILE" else tmp_path)}
    before = requested.settings_of(env)
    file.write_text('index-url = "https://example.org/simple"')
    assert requested.settings_of(env) != before
