"""`ringbinder events`: questions to a sink that keeps events, and the catalogue of schemas."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ringbinder.errors import UserError
from ringbinder.events.query import EventQuery, EventRow, Queryable
from ringbinder.events.schema_registry import Catalogue, as_markdown
from ringbinder.plugins.manager import Plugins
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services

from ..terminal import echo, echo_json, echo_text
from .exitcodes import ExitCode
from .invocation import Invocation


async def query_events(
    invocation: Invocation, *, schema: str, since: float, by: Sequence[str], limit: int, as_json: bool
) -> int:
    """Prints how many events of the last `since` seconds there are. Raises UserError if nothing can answer."""
    query = EventQuery(schema, time.time() - since, by=tuple(by), limit=limit)
    rows = await _ask(invocation, query)
    if as_json:
        echo_json([_record(query.by, row) for row in rows])
    else:
        _table(query.by, rows)
    return ExitCode.OK


async def _ask(invocation: Invocation, query: EventQuery) -> list[EventRow]:
    config = invocation.config()
    paths = Paths.of(config.settings.state_folder, config.settings.cache_folder)
    services = Services(invocation.log, paths)
    try:
        plugins = Plugins.apart(config, services)
        plugins.load()
        for name in plugins.sinks:
            if isinstance(sink := plugins.get("sink", name), Queryable):
                return await sink.query(query)
    finally:
        await services.close()
    raise UserError(
        "no-answer",
        "No sink of the configuration keeps events for questions: add `sqlite` to Ringbinder.sinks, "
        "and give the same --config here as to `ringbinder serve`.",
    )


def _record(by: Sequence[str], row: EventRow) -> dict[str, object]:
    keys = dict(zip(by, row.keys, strict=True))
    return {**keys, "count": row.count, "first": row.first, "last": row.last, "seconds": row.seconds}


def _table(by: Sequence[str], rows: Sequence[EventRow]) -> None:
    if not rows:
        echo("No such events.")
        return
    timed = any(row.seconds is not None for row in rows)
    cells = [[*(name.upper() for name in by), "COUNT", "LAST", *(["MEAN SECONDS"] if timed else [])]]
    for row in rows:
        last = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.last))
        mean = "" if row.seconds is None else f"{row.seconds:.1f}"
        cells.append([*row.keys, str(row.count), last, *([mean] if timed else [])])
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    for line in cells:
        echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_catalogue() -> None:
    """Prints the catalogue as Markdown."""
    echo_text(as_markdown(Catalogue()).removesuffix("\n"))
