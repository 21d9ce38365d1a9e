"""The real parts that tests share, each started once for the whole session, when the first test asks for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uv
from attrs import frozen

from . import baseimage, layersbase
from .helm import Chart
from .parts import HTPASSWD, PASSWORD, RealEngine, RealRegistry, engine, registry, registry_of_users
from .token_server import ISSUER, READER, Behaviour, TokenServer

Require = Callable[..., None]

_ROOT = Path(__file__).parents[3]

_OLD: tuple[str, ...] = ("jupyter-repo2docker==2024.7.0", "chardet<6", "setuptools<81")


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory, require_real: Require) -> Iterator[RealRegistry]:
    """A registry that takes everything from everybody."""
    require_real("docker-registry")
    with registry(tmp_path_factory.mktemp("registry") / "open") as running:
        yield running


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory, require_real: Require) -> Iterator[RealRegistry]:
    """A registry for the user ``builder`` with `parts.PASSWORD`."""
    require_real("docker-registry")
    with registry_of_users(tmp_path_factory.mktemp("registry") / "of-users", HTPASSWD) as running:
        yield running


@frozen
class Guarded:
    """A real registry whose tokens `tokens` makes."""

    registry: RealRegistry
    tokens: TokenServer


@pytest.fixture(scope="session")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]
) -> Iterator[Callable[[Behaviour], Guarded]]:
    """Gives the real registry with a token server that behaves as it is said; started once for each."""
    require_real("docker-registry")
    folder = tmp_path_factory.mktemp("token-registries")
    users = {
        "builder": PASSWORD,
        READER: PASSWORD,
        "_json_key": '{"a": "key"}',
        "oauth2accesstoken": "ya29.access",
    }
    started: dict[Behaviour, Guarded] = {}
    with ExitStack() as stack:

        def start(behaviour: Behaviour) -> Guarded:
            if behaviour not in started:
                tokens = TokenServer(behaviour, f"registry of {behaviour}", users)
                stack.enter_context(tokens.running())
                certificate = folder / f"{behaviour}.crt"
                tokens.write_certificate(certificate)
                settings = {
                    "realm": tokens.url, "service": tokens.service, "issuer": ISSUER,
                    "rootcertbundle": str(certificate),
                }  # fmt: skip
                running = stack.enter_context(registry(folder / behaviour, {"token": settings}))
                started[behaviour] = Guarded(running, tokens)
            return started[behaviour]

        yield start


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory, require_real: Require) -> Iterator[RealEngine]:
    """A docker engine; its images are gone with it."""
    require_real("dockerd")
    with engine(tmp_path_factory.mktemp("engine") / "e") as running:
        yield running


@pytest.fixture(scope="session")
def base_archive(pytestconfig: pytest.Config, require_real: Require) -> Path:
    """The file system of `base_image`; made once for this folder, which takes about a minute."""
    require_real("debootstrap", "jupyterlab")
    return baseimage.archive(_cache(pytestconfig))


@pytest.fixture(scope="session")
def base_image(docker_engine: RealEngine, base_archive: Path) -> str:
    """Name of an image in `docker_engine` with Debian, JupyterLab and `jupyterhub-singleuser`."""
    baseimage.load(docker_engine, base_archive)
    return baseimage.NAME


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory, require_real: Require) -> Chart:
    """Ringbinder's chart, complete enough to be rendered and installed."""
    require_real("helm")
    folder = tmp_path_factory.mktemp("charts") / "ringbinder"
    shutil.copytree(_ROOT / "charts" / "ringbinder", folder)
    shutil.copytree(_ROOT / "tests" / "chart" / "stand-in", folder / "charts" / "jupyterhub", dirs_exist_ok=True)
    return Chart(folder)


Docker = Callable[..., str]


@pytest.fixture(scope="session")
def docker(docker_engine: RealEngine) -> Docker:
    """Runs a command of docker's and returns what it prints; raises AssertionError with all of it if it fails."""

    def run(*words: str, timeout: float = 900) -> str:
        command = ["docker", "--host", docker_engine.address, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ringbinder_image(docker: Docker, base_image: str) -> str:
    """Name of Ringbinder's own image in `docker_engine`, built from the Dockerfile on `base_image`."""
    name = "ringbinder-tests/ringbinder:1"
    docker("build", "--network", "host", "--build-arg", f"BASE={base_image}", "--tag", name, str(_ROOT))
    return name


@pytest.fixture(scope="session")
def layers_base_files(
    docker_engine: RealEngine, docker: Docker, pytestconfig: pytest.Config, require_real: Require
) -> Path:
    """The base image of builder `layers`, for `layersbase.push` into any registry."""
    require_real("debootstrap", "jupyterlab", "docker-registry")
    return layersbase.made(_cache(pytestconfig), docker_engine, docker)


@pytest.fixture(scope="session")
def layers_base(layers_base_files: Path, open_registry: RealRegistry) -> str:
    """Name of the base image of builder `layers` in `open_registry`, with Python 3.11."""
    return layersbase.push(layers_base_files, open_registry.host)


@frozen
class Repo2Docker:
    """An installed repo2docker, and what it needs to build on `base_image`."""

    program: Path
    config: Path
    docker_config: Path
    """Folder of docker's `config.json`, which says where its plugins are."""


@pytest.fixture(scope="session")
def repo2docker(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Repo2Docker:
    """The repo2docker of the tests' own environment, 2025.8 or later, which builds with buildx."""
    program = Path(sys.executable).with_name("jupyter-repo2docker")
    return _ready(program, tmp_path_factory.mktemp("docker-config"))


@pytest.fixture(scope="session")
def repo2docker_2024(
    base_image: str, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Repo2Docker:
    """repo2docker 2024.7.0, which BinderHub's chart has, in an environment of its own; it needs no buildx."""
    folder = _cache(pytestconfig) / "repo2docker-2024.7.0"
    program = folder / "bin" / "jupyter-repo2docker"
    if not program.exists():
        command = uv.find_uv_bin()
        subprocess.run([command, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([command, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *_OLD], check=True)
    return _ready(program, tmp_path_factory.mktemp("docker-config"))


def _ready(program: Path, docker_config: Path) -> Repo2Docker:
    plugins = docker_config / "plugins"
    plugins.mkdir()
    (plugins / "docker-buildx").symlink_to(baseimage.STAND_INS / "docker-buildx")
    (docker_config / "config.json").write_text(f'{{"cliPluginsExtraDirs": ["{plugins}"]}}')
    return Repo2Docker(program, baseimage.STAND_INS / "repo2docker_config.py", docker_config)


def _cache(config: pytest.Config) -> Path:
    """A folder that later sessions find as this one leaves it, and that pytest's ``--cache-clear`` empties."""
    assert config.cache is not None
    return config.cache.mkdir("real-parts")
