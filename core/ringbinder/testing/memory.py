"""A whole Ringbinder in memory, with the plugins of a test in it: nothing is fetched, built or started."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from attrs import define, field, frozen

from ..app import Ringbinder, running
from ..config.loading import load
from ..model import LaunchRequest
from ..plugins.bases import Sink
from ..plugins.discovery import GROUPS, OPT_IN
from ..protocol import Event, SinkEvent
from ..runtime.clock import Clock

if TYPE_CHECKING:
    from .context import Answer


@define
class Happened:
    """What the sinks received. `until` waits for more."""

    events: list[SinkEvent]
    """In the order in which they came."""
    _news: asyncio.Event

    def of(self, schema: str) -> list[SinkEvent]:
        """Those of a schema, in order."""
        return [event for event in self.events if event.schema == schema]

    async def until(self, schema: str, count: int = 1, seconds: float = 60.0) -> list[SinkEvent]:
        """`count` events of a schema. After `seconds` raises TimeoutError, which names what has come instead."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.of(schema)) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            came = ", ".join(event.schema for event in self.events) or "nothing"
            raise TimeoutError(f"no {count} events of {schema!r} within {seconds:g} s; what came: {came}") from None
        return self.of(schema)


@frozen
class MemoryApp:
    """Made by `memory_app`. `app` is the application itself, `happened` what its sinks received."""

    app: Ringbinder
    """Core's own, which may change."""
    happened: Happened
    """What the sinks received."""

    async def launch(self, link: str, **request: Any) -> list[Event]:
        """Every event that a client of this link would get, the last one among them."""
        found = self.app.link(link)
        session = self.app.launch(LaunchRequest(found.provider, found.spec, **request))
        return [event async for batch in session.read() for _, event in batch]


@asynccontextmanager
async def memory_app(
    folder: Path,
    plugins: Mapping[str, Any] | None = None,
    *,
    answer: Answer | None = None,
    clock: Clock | None = None,
    installed: bool = False,
    **sections: Mapping[str, Any],
) -> AsyncIterator[MemoryApp]:
    """An application with `plugins` (``{"provider:mine": MyProvider}``), and those called `fake`, alone.

    A registry, builder, launcher or sink given so is the one that is used; what is not given is Ringbinder's
    plugin `fake`. With `installed=True` all plugins that are installed are there too. `sections` are the
    configuration (``Mine={"hostname": "x"}``); environment variables are not read. `answer` gives the responses of
    what is asked once it runs, as in `make_context`, and `clock` stands in for the machine's. All files lie in
    `folder`. Raises `ConfigError` and `PluginError` as a start does.
    """
    given = dict(plugins or {})
    happened = Happened([], asyncio.Event())

    class Recorder(Sink[Any]):
        async def emit(self, events: Sequence[SinkEvent]) -> None:
            happened.events.extend(events)
            happened._news.set()  # pyright: ignore[reportPrivateUsage] - a friend, in its module

    names = {kind: [key.partition(":")[2] for key in given if key.startswith(f"{kind}:")] for kind in GROUPS}
    chosen = {kind: (names[kind] or ["fake"])[0] for kind in ("registry", "builder", "launcher")}
    own: dict[str, Any] = {
        **chosen,
        "extra_plugins": ["fake"],
        "sinks": ["recorder", *names["sink"]],
        "state_folder": str(folder / "state"),
        "cache_folder": str(folder / "cache"),
        **sections.pop("Ringbinder", {}),
    }
    points = _EntryPoints({**given, "sink:recorder": Recorder}, installed)
    import httpx

    config = load(environ={}, sets=list(_sets({"Ringbinder": own, **sections})))
    async with running(config, structlog.get_logger(), entry_points=points, clock=clock) as app:
        if answer:
            app.services.transport = httpx.MockTransport(answer)
        yield MemoryApp(app, happened)


class _Point(EntryPoint):
    """An entry point of a class that is there already."""

    def load(self) -> Any:
        return vars(self)["plugin"]


@frozen
class _EntryPoints:
    plugins: Mapping[str, Any]
    installed: bool
    select: Callable[..., Iterable[EntryPoint]] = field(factory=lambda: entry_points().select)
    """Reads all groups at once, which takes long."""

    def __call__(self, group: str) -> Iterator[EntryPoint]:
        given = {}
        for key, plugin in self.plugins.items():
            kind, _, name = key.partition(":")
            if GROUPS[kind] == group:
                point = _Point(name, f"{plugin.__module__}:{plugin.__qualname__}", group)
                vars(point)["plugin"] = plugin
                given[name] = point
        # A class of the test's own stands in for the installed plugin of its name.
        found = (point for point in self.select(group=group) if self.installed or point.name in OPT_IN)
        yield from (point for point in found if point.name not in given)
        yield from given.values()


def _sets(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for section, options in sections.items():
        for option, value in options.items():
            yield f"{section}.{option}={json.dumps(value)}"
