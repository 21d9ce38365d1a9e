"""What all tests share: real parts that must be there, no process left behind, Hypothesis profiles.

A test that needs a real part names it: ``@pytest.mark.real("git", "chromium")``. Where one is missing, the
test is skipped with what to install; where the environment variable CI is ``true``, it fails.

What needs one of `_SLOW` is slow without a mark of its own, and is left out by ``make test``; one that is to run there
all the same has the mark ``quick``. Other tests that take more than some seconds have the mark ``slow``.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import hypothesis
import psutil
import pytest
import structlog
from ringbinder.testing.gitserver import GitServer

pytest_plugins = [
    "realparts.turned",
    "realparts.embedded",
    "realparts.fixtures",
    "realparts.forge",
    "realparts.npm",
    "realparts.program",
    "realparts.serving",
    "ringbinder.testing.pytest",
]

_IN_CI: Final = os.environ.get("CI") == "true"
_SECONDS_TO_VANISH: Final = 10.0

# Who runs the tests may have them ignore signals, as nohup does; what the tests start would inherit that.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# Where `tests/cluster` keeps what it has made or downloaded.
_CLUSTER: Final = Path(os.environ.get("REAL_CLUSTER") or Path.home() / ".cache" / "real-cluster")
os.environ["PATH"] += f"{os.pathsep}{_CLUSTER / 'bin'}"

# What tests make fail is logged with a plain traceback: one that shows all variables takes a second to render.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# Deadlines measure the machine, not the code.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if _IN_CI else "default"))


# Real parts that take long to start or to use, the longest first; what uses one of the grouped parts runs in one
# worker, which starts it once.
_GROUPED: Final = ("dockerd", "hub", "npm", "jupyterlab")
_SLOW: Final = {*_GROUPED, "chromium", "helm"}
# Fixtures that need a part, for the tests that use them.
_PART_OF: Final = {
    "browser": "chromium",
    "chart": "helm",
    "docker_engine": "dockerd",
    "installed": "hub",
    "packages": "npm",
}


def _command(*names: str) -> Callable[[], bool]:
    return lambda: any(shutil.which(name) for name in names)


def _uv() -> str | None:
    if importlib.util.find_spec("uv") is None:
        return None
    import uv

    try:
        return str(uv.find_uv_bin())
    except FileNotFoundError:
        return None


def _index_answers() -> bool:
    """Whether uv can get packages, as it is configured here."""
    if (uv := _uv()) is None:
        return False
    command = [uv, "pip", "compile", "--quiet", "--no-deps", "-"]
    try:
        return subprocess.run(command, input=b"pip", capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _may_have_network_namespace() -> bool:
    return subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode == 0


_REAL: Final[Mapping[str, tuple[Callable[[], bool], str]]] = {
    "git": (_command("git"), "install git"),
    "make": (_command("make"), "install make"),
    "uv": (lambda: _uv() is not None, "install uv (`pip install uv`)"),
    "index": (
        _index_answers,
        "uv must be able to get packages: check the network or uv's index settings",
    ),
    "jupyterlab": (
        _index_answers,
        "uv must be able to get packages: check the network or uv's index settings",
    ),
    "npm": (lambda: _command("npm")() and _command("node")(), "install Node.js and npm"),
    "docker-registry": (
        _command("docker-registry"),
        "install the CNCF distribution registry (Debian: `apt install docker-registry`)",
    ),
    "dockerd": (
        lambda: _command("dockerd")() and os.geteuid() == 0,
        "install a docker engine (Debian: `apt install docker.io`) and run the tests as root",
    ),
    "debootstrap": (
        lambda: _command("debootstrap")() and os.geteuid() == 0,
        "install debootstrap (Debian: `apt install debootstrap`) and run the tests as root",
    ),
    "cluster": (
        lambda: bool(os.environ.get("TEST_KUBECONFIG")),
        "name the kubeconfig of a Kubernetes cluster for tests in TEST_KUBECONFIG, or run `make test-cluster`",
    ),
    "cluster of this machine": (
        lambda: bool(os.environ.get("TEST_CLUSTER_CONTAINERD")),
        "run `make test-cluster` as root, without KUBECONFIG",
    ),
    "helm": (
        _command("helm"),
        "install helm, or let PyPI give it: `python tests/cluster/node/tools.py`",
    ),
    "tmpfs": (
        lambda: _command("mount")() and os.geteuid() == 0,
        "run the tests as root, who may mount a small file system",
    ),
    "network namespace": (
        lambda: _command("unshare")() and _command("ip")() and _may_have_network_namespace(),
        "install iproute2 and util-linux, and allow user namespaces",
    ),
    "bwrap": (_command("bwrap"), "install bubblewrap (Debian: `apt install bubblewrap`)"),
    "chromium": (
        lambda: (
            _command("chromium", "chromium-browser", "google-chrome")()
            and importlib.util.find_spec("playwright") is not None
        ),
        "install Chromium (Debian: `apt install chromium`) and playwright (`pip install playwright`)",
    ),
}


@functools.cache
def _lacks(part: str) -> str:
    """What to do about a missing real part; empty if it is there."""
    if part not in _REAL:
        raise pytest.UsageError(f"no real part {part!r} is known to tests/conftest.py; known: {', '.join(_REAL)}")
    is_there, advice = _REAL[part]
    return "" if is_there() else f"needs {part}: {advice}"


def _demand(*parts: str) -> None:
    if missing := [lack for part in parts if (lack := _lacks(part))]:
        (pytest.fail if _IN_CI else pytest.skip)("; ".join(missing))


@pytest.fixture(scope="session")
def require_real() -> Callable[..., None]:
    """Skips, or in CI fails, unless all the named real parts are there: for fixtures that start one."""
    return _demand


@pytest.fixture
async def git_server(tmp_path: Path, require_real: Callable[..., None]) -> AsyncIterator[GitServer]:
    """A real git server on the loopback, with no repository yet."""
    require_real("git")
    async with GitServer.running(tmp_path / "served") as server:
        yield server


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parts = {str(part) for mark in item.iter_markers("real") for part in mark.args}
        parts |= {_PART_OF[name] for name in getattr(item, "fixturenames", ()) if name in _PART_OF}
        if parts & _SLOW and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") or "chromium" in parts:
            # Not yet known to be free of them; a browser breaks off its requests for static files.
            item.add_marker(pytest.mark.filterwarnings("default::ResourceWarning"))
        if group := next((part for part in _GROUPED if part in parts), ""):
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("real"):
        _demand(*mark.args)


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fails the session if a process that a test has started outlives all tests; ends and names it."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    _, left = psutil.wait_procs([process for process in started if not _is_ours(process)], _SECONDS_TO_VANISH)
    reported = [_described(process) for process in left]
    for process in left:
        process.kill()
    assert not reported, "processes outlived the tests:\n" + "\n".join(reported)


def _is_ours(process: psutil.Process) -> bool:
    """Whether it is a helper of Python's multiprocessing, which ends with this process."""
    try:
        return any("multiprocessing" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _described(process: psutil.Process) -> str:
    try:
        test = process.environ().get("PYTEST_CURRENT_TEST", "a test unknown")
        return f"{process.pid}: {' '.join(process.cmdline())[:300]} ({process.status()}; started by {test})"
    except psutil.Error:
        return f"{process.pid}: (no more is known)"
