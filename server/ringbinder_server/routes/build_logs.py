"""`/api/v1/builds/<id>/log`: what a build has written, under way or kept, as text or JSON lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from quart import Blueprint, Response, abort, request
from ringbinder.launches.runs import Run
from ringbinder.protocol import Event

from ..request_context import Site

BUILD_LOG = "api/v1/builds/{id}/log"
"""Where the log of a build is, below the base URL."""
_BATCH = 256
_KINDS = {"text": "text/plain; charset=utf-8", "jsonl": "application/jsonl"}
_NO_STORE = {"Cache-Control": "no-store"}


def routes(site: Site) -> Blueprint:
    """The blueprint with the endpoint."""
    blueprint = Blueprint("builds", __name__)

    @blueprint.get("/api/v1/builds/<segment:id>/log")
    async def log(id: str) -> Response:
        form = _form()
        headers = {**_NO_STORE, "Content-Disposition": f'inline; filename="build.{_FORMS[form][1]}"'}
        if run := site.binder.runs.find(id):
            _only_for(site, run.users)
            follow = request.args.get("follow", "").lower() in ("1", "true")
            response = Response(_lines(run, form, follow), content_type=_KINDS[form], headers=headers)
            response.timeout = None
            return response
        kept = await site.binder.kept_log(id)
        if kept is None:
            abort(404)
        _only_for(site, kept.users)
        body = await asyncio.to_thread(_kept, kept.lines, form)
        return Response(body, content_type=_KINDS[form], headers=headers)

    return blueprint


def _only_for(site: Site, users: Collection[str]) -> None:
    """Ends the request (404) if who has logged in did not ask for this build."""
    if site.settings.auth_enabled and (site.user is None or site.user.key not in users):
        abort(404)


def _form() -> str:
    asked = request.args.get("format")
    if asked is None:
        best = request.accept_mimetypes.best_match(["text/plain", "application/jsonl", "application/x-ndjson"])
        return "text" if best in (None, "text/plain") else "jsonl"
    if asked not in _KINDS:
        abort(400, f"format is one of {', '.join(_KINDS)}")
    return asked


async def _lines(run: Run, form: str, follow: bool) -> AsyncGenerator[bytes, None]:
    position, make = 0, _FORMS[form][0]
    while True:
        if batch := run.log.read(position, run.log.end, _BATCH):
            position = batch[-1][0] + 1
            yield make([event for _, event in batch])
        elif run.log.closed or not follow:
            return
        else:
            await run.log.wakeup.wait()


def _kept(lines: bytes, form: str) -> bytes:
    if form == "jsonl":
        return lines + b"\n" if lines else b""
    return b"".join(_text(json.loads(line)["message"]) for line in lines.splitlines())


def _text(message: str) -> bytes:
    return (message if message.endswith(("\n", "\r")) else message + "\n").encode(errors="replace")


_FORMS: dict[str, tuple[Callable[[Sequence[Event]], bytes], str]] = {
    "text": (lambda events: b"".join(_text(event.message) for event in events), "log"),
    "jsonl": (lambda events: b"".join(event.json + b"\n" for event in events), "jsonl"),
}
