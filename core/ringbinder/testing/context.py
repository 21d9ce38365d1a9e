"""What a plugin gets from core, for tests: services over temporary folders, and a log that remembers."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import structlog
from attrs import define, evolve, field

from ..model import FolderSource, Plan, Repo, Server
from ..plugins.caller import HookCaller
from ..plugins.context import Application, Context
from ..plugins.image_registry import ImageRegistry
from ..protocol import Log, Phase
from ..runtime.clock import Clock, SystemClock
from ..runtime.paths import Paths
from ..runtime.services import Services

if TYPE_CHECKING:
    import httpx

    Answer = (
        Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
    )

PATIENCE = 15.0

_noting: ContextVar[bool] = ContextVar("noting", default=False)


@define
class RecordingLog:
    """A `Log` that remembers. `lines` holds (phase, text) in the order in which they came."""

    lines: list[tuple[Phase | None, str]] = field(factory=list)
    """(phase, text), as they came."""
    layers: list[Mapping[str, Any]] = field(factory=list)
    """What `progress` was called with."""
    _news: asyncio.Event = field(factory=asyncio.Event, init=False)

    def line(self, message: str, phase: Phase | None = None) -> None:
        self.lines.append((phase, message))
        self._news.set()

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        self.layers.append(layers)

    @property
    def text(self) -> str:
        """All lines, one under the other."""
        return "\n".join(message.rstrip("\n") for _, message in self.lines)

    async def until(self, text: str, seconds: float = 60.0) -> None:
        """Waits for a line that contains `text`. After `seconds` raises TimeoutError, with the log."""
        try:
            async with asyncio.timeout(seconds):
                while text not in self.text:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"no line with {text!r} within {seconds:g} s; the log:\n{self.text}") from None


@define(slots=False)
class RecordedServers:
    """Stands in for the servers of an application: lists `listed`, and remembers what `stopped` was called with."""

    listed: list[Server] = field(factory=list)
    """What `running` gives."""
    ended: list[tuple[str, str, float | None, str]] = field(factory=list)
    """(server, reason, seconds, why), as they came."""

    async def running(self) -> Sequence[Server]:
        return self.listed

    def stopped(self, server: str, reason: str, seconds: float | None = None, why: str = "") -> None:
        self.ended.append((server, reason, seconds, why))


def image_registry(registry: Any) -> ImageRegistry:
    """What `Context.registry` is where the plugin `registry` is chosen."""
    hooks = HookCaller(structlog.get_logger())
    hooks.register(registry, "registry:tested")
    return ImageRegistry(hooks, "registry:tested")


def make_context(
    tmp_path: Path, name: str, *, clock: Clock | None = None, answer: Answer | None = None, registry: Any = None
) -> Context:
    """A `Context` for the plugin `name` whose folders are below `tmp_path`.

    With `answer`, that function gives the response to each request of `context.http`, as in
    `httpx.MockTransport`, and nothing reaches the network. Its `fetch` copies what a `FolderSource`
    points to, as in the plans that `folder_plan` makes; its
    `servers` are `RecordedServers`; its `registry` asks the plugin `registry`. Close with
    ``await context.services.close()``.
    """
    import httpx

    log = structlog.get_logger().bind(plugin=name)
    paths = Paths(state=tmp_path / "state", cache=tmp_path / "cache")
    transport = httpx.MockTransport(answer) if answer else None
    services = Services(log, paths, clock or SystemClock(), transport=transport)
    application = evolve(Application.absent(services), fetch=_copy_folder, servers=RecordedServers())
    if registry is not None:
        application = evolve(application, registry=image_registry(registry))
    return Context(name, services, log, application)


async def _copy_folder(repo: Repo, into: Path, log: Log) -> None:
    assert isinstance(repo.source, FolderSource), "the services of a test fetch folders only"
    log.line(f"Copying {repo.source.path}\n", "fetching")
    shutil.copytree(repo.source.path, into, symlinks=True, dirs_exist_ok=True)


def folder_plan(folder: Path, files: Mapping[str, str | bytes]) -> Plan:
    """A plan to build `files` (path -> content; executable if it begins so: ``#!``), put into `folder`.

    What is in `folder` already is not written again, so that another process can build from it meanwhile.
    """
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        data = content.encode() if isinstance(content, str) else content
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
        digest.update(repr((name, data)).encode())
    ref = digest.hexdigest()[:40]
    url = folder.as_uri()
    source = FolderSource(folder, ref)
    repo = Repo(url, source, ref, resolved_spec=f"test/{ref}", ref_url=url, slug="test", provider="test")
    return Plan(repo, image=f"test-{folder.name.lower()}:{ref}", build=f"build-test-{ref[:12]}")


def descendants() -> set[psutil.Process]:
    """All processes that this one has started, directly or not, and that still run."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child)
        except psutil.NoSuchProcess:
            continue
    return found


@contextmanager
def started_tasks() -> Iterator[list[asyncio.Task[Any]]]:
    """While entered, notes the tasks that are started from here, directly or not; servers' own are not."""
    loop = asyncio.get_running_loop()
    usual = loop.get_task_factory()
    noted: list[asyncio.Task[Any]] = []

    def make(loop: asyncio.AbstractEventLoop, work: Any, **keywords: Any) -> Any:
        task: Any = usual(loop, work, **keywords) if usual else asyncio.Task(work, loop=loop, **keywords)
        if _noting.get():
            noted.append(task)
        return task

    token = _noting.set(True)
    loop.set_task_factory(make)
    try:
        yield noted
    finally:
        loop.set_task_factory(usual)
        _noting.reset(token)


async def still_running(tasks: Sequence[asyncio.Task[Any]], seconds: float = 1.0) -> list[str]:
    """What these tasks do that have not ended after up to `seconds`."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
    return [repr(task.get_coro()) for task in tasks if not task.done()]


async def left_over(before: set[psutil.Process]) -> list[str]:
    """What runs now and did not in `before`, after up to `PATIENCE` seconds for the last ones to vanish."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while (extra := descendants() - before) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    return sorted(_named(process) for process in extra)


def _named(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return f"{process.pid}: (just ended)"
