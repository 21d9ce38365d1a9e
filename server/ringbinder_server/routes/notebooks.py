"""One's own notebooks: what runs, when it will be stopped, and the work that ended ones have left.

For a person's own machine (`Site.is_own_machine`): elsewhere, who looks is not whose notebooks these are.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

from attrs import frozen
from quart import Blueprint, Response, abort, g, jsonify, redirect, render_template, request
from ringbinder.errors import UserError
from ringbinder.model import Server, Work
from ringbinder.runtime.tempfolder import temporary_folder
from ringbinder.secret import redact
from werkzeug.wrappers import Response as Redirect

from ..request_context import Site

_PRIVATE: Final = {"Cache-Control": "no-store"}
_ARCHIVES: Final = {"patch": "text/x-diff; charset=utf-8", "zip": "application/zip"}
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CHUNK: Final = 2**18
_UNKNOWN: Final = "There is no such notebook here, or not any more."
_FOREIGN: Final = "Only the page of the notebooks itself may ask for this: open it, and do it there."


@frozen
class _Row:
    """One session as the page shows it."""

    work: Work
    server: Server | None
    """None: it has ended, or another process runs it."""

    @property
    def repository(self) -> str:
        return redact(self.work.repo_url) or "a folder"

    @property
    def version(self) -> str:
        """Short, if it is a commit."""
        ref = redact(self.work.ref)
        return ref[:7] if _COMMIT.fullmatch(ref) else ref

    @property
    def stops_at(self) -> float | None:
        return self.server.extra.get("stops_at") if self.server else None


def routes(site: Site) -> Blueprint:
    """The blueprint with the page and what its buttons do."""
    blueprint = Blueprint("notebooks", __name__)
    binder = site.binder
    page = f"{site.settings.base_url}notebooks"

    async def shown(problem: str = "", status: int = 200) -> Response:
        if g.get("by_cookie"):  # anybody may have it (see `access_token`): the page's script asks with the key
            text = await render_template("notebooks.html", rows=None, problem=problem)
            return Response(text, status, headers=_PRIVATE)
        servers = {server.id: server for server in await binder.servers.running()}
        rows = [_Row(work, servers.get(work.id)) for work in sorted(await binder.work(), key=_latest, reverse=True)]
        text = await render_template("notebooks.html", rows=rows, problem=problem, clock=_clock)
        return Response(text, status, headers=_PRIVATE)

    @blueprint.before_request
    async def only_own_page() -> None:
        if refusal := site.refusal():
            abort(403, refusal)
        if request.endpoint != "notebooks.all" and not site.guard.is_own_page(site.asker()):
            abort(403, _FOREIGN)

    async def server_of(id: str) -> Server | None:
        return next((server for server in await binder.servers.running() if server.id == id), None)

    @blueprint.get("/notebooks")
    async def all() -> Response:
        return await shown()

    @blueprint.post("/notebooks/<segment:id>/open")
    async def open_it(id: str) -> Response:
        server = await server_of(id)
        if server is None:
            abort(404)
        # No redirect: a form's answer may lead browsers no further than the pages' policy allows.
        answer = jsonify(url=f"{server.url}?token={quote(server.token.reveal(), safe='')}")
        answer.headers.update(_PRIVATE)
        return answer

    @blueprint.post("/notebooks/<segment:id>/work.<segment:kind>")
    async def take_away(id: str, kind: str) -> Response:
        if kind not in _ARCHIVES:
            abort(404)
        async with AsyncExitStack() as holds:
            scratch = temporary_folder(binder.services.paths.cache / "tmp")
            file = await holds.enter_async_context(scratch) / f"{id}.{kind}"
            try:
                if not await binder.export_work(id, file):
                    return await shown(_UNKNOWN, 404)
            except UserError as error:
                return await shown(error.message, 409)
            content = _content(file, holds.pop_all())
        named = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(content, content_type=_ARCHIVES[kind], headers={**_PRIVATE, **named})

    async def stop(id: str) -> bool:
        server = await server_of(id)
        return server is not None and await binder.servers.stop(server)

    actions: dict[str, Callable[[str], Awaitable[bool]]] = {
        "keep": binder.keep_work,
        "stop": stop,
        "discard": binder.discard_work,
    }

    @blueprint.post("/notebooks/<segment:id>/<segment:action>")
    async def act(id: str, action: str) -> Response | Redirect:
        if action not in actions:
            abort(404)
        try:
            return redirect(page, 303) if await actions[action](id) else await shown(_UNKNOWN, 404)
        except UserError as error:
            return await shown(error.message, 409)

    return blueprint


async def _content(file: Path, holds: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    """What `file` holds; `holds`, the folder in which it is, is left afterwards."""
    async with holds:
        opened = holds.enter_context(file.open("rb"))
        while chunk := await asyncio.to_thread(opened.read, _CHUNK):
            yield chunk


def _latest(work: Work) -> float:
    return work.ended or work.started or 0.0


def _clock(unix: float | None) -> str:
    """A time as a clock on the wall shows it: page and server are on one machine."""
    if unix is None:
        return "an unknown time"
    then, today = time.localtime(unix), time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%d %B %Y, %H:%M", then)
