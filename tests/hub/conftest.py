"""A real JupyterHub of each version for all tests here, and the launcher over it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from ringbinder.model import GitSource, Image, LaunchRequest, Plan, Repo
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import make_context
from ringbinder_launchers._options import LauncherOptions
from ringbinder_launchers.jupyterhub import JupyterHubLauncher

from .login_hub import LoginHub, Serve, login_hub, serve_for
from .real_hub import TOKEN, Hub, Installed, hub, install

VERSIONS = ("5", "6")
REF = "1" * 40
REPO = Repo(
    "https://host.example/some/course", GitSource("https://host.example/some/course", REF), REF,
    resolved_spec=f"some/course/{REF}", ref_url=f"https://host.example/some/course/tree/{REF}", slug="course",
    provider="gh",
)  # fmt: skip
PLAN = Plan(REPO, f"course:{REF}", "build-course")
IMAGE = Image(PLAN.image, "oci")
JUPYTER = Image("jupyter:1", "oci")
"""A real JupyterLab; the others are light stand-ins, or behave as their names say."""
ENDLESS, BROKEN, REFUSED, SLOW, UNLUCKY, UNREACHABLE = (
    Image(f"{kind}:1", "oci") for kind in ("endless", "broken", "refused", "slow", "unlucky", "unreachable")
)

Make = Callable[..., JupyterHubLauncher]


def wish(session: str = "a" * 20, **more: Any) -> LaunchRequest:
    return LaunchRequest("gh", "some/course/HEAD", session=session, launch_host="http://127.0.0.1:8585/", **more)


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]
) -> Callable[[str], Installed]:
    """Installs a version, once for all tests; in the folder RINGBINDER_TEST_HUBS, once for all sessions."""
    require_real("npm", "jupyterlab")
    folder = Path(os.environ.get("RINGBINDER_TEST_HUBS") or tmp_path_factory.getbasetemp() / "hubs")
    folder.mkdir(parents=True, exist_ok=True)
    return lambda version: install(version, folder)


@pytest.fixture(scope="session")
def hubs(
    tmp_path_factory: pytest.TempPathFactory, installed: Callable[[str], Installed]
) -> Iterator[Callable[[str], Hub]]:
    """The shared hub of a version, started once."""
    started: dict[str, Hub] = {}
    with ExitStack() as stack:

        def get(version: str) -> Hub:
            if version not in started:
                folder = tmp_path_factory.mktemp("hub") / version
                started[version] = stack.enter_context(hub(installed(version), folder))
            return started[version]

        yield get


@pytest.fixture(params=VERSIONS)
def each_hub(hubs: Callable[[str], Hub], request: pytest.FixtureRequest) -> Hub:
    """Of every version."""
    return hubs(request.param)


@pytest.fixture
def the_hub(hubs: Callable[[str], Hub]) -> Hub:
    """Of the newest version."""
    return hubs(VERSIONS[-1])


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "jupyterhub")
    yield made
    await made.services.close()


@pytest.fixture
def make(context: Context) -> Make:
    """Makes a launcher for a hub's address: quick repetitions."""

    def make(url: str, token: str = TOKEN, **options: Any) -> JupyterHubLauncher:
        config = LauncherOptions(hub_url=url, hub_api_token=Secret(token), retry_delay=0.2)
        return JupyterHubLauncher(attrs.evolve(config, **options), context)

    return make


@pytest.fixture(scope="session")
def login_hubs(
    tmp_path_factory: pytest.TempPathFactory, installed: Callable[[str], Installed]
) -> Iterator[Callable[[str], LoginHub]]:
    """The hub of a version that all tests here share, started once."""
    started: dict[str, LoginHub] = {}
    with ExitStack() as stack:

        def get(version: str) -> LoginHub:
            if version not in started:
                folder = tmp_path_factory.mktemp("login-hub") / version
                started[version] = stack.enter_context(login_hub(installed(version), folder))
            return started[version]

        yield get


@pytest.fixture
def at(login_hubs: Callable[[str], LoginHub]) -> LoginHub:
    """Of the oldest version."""
    return login_hubs(VERSIONS[0])


@pytest.fixture
def serve(at: LoginHub, tmp_path: Path) -> Serve:
    return serve_for(at, tmp_path)
