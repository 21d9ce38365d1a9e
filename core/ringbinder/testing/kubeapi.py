"""A small Kubernetes API server for tests: pods that run scripts, their logs, watches; and faults on demand.

    async with KubeApi.running(folder) as api:
        api.script = lambda pod: [Line("hello"), Exit(0)]  # of `kubescript`
        ... KUBECONFIG=api.kubeconfig ...

It knows namespaced pods, secrets and events, and the review of one's own rights. What it answers was seen on real API
servers; the probes in ``tests/real/realparts/kubeprobes.py`` hold both against each other.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from attrs import define, field

from . import kubeobjects as known
from .kubecluster import KubeCluster, PodLog
from .kubescript import Object


@define(eq=False)
class KubeApi(KubeCluster):
    """See the module. Namespaces other than those in `namespaces` do not exist."""

    address: str = ""
    """``http://127.0.0.1:port``."""
    kubeconfig: Path = Path()
    """A file with that address, for clients."""
    bookmarks: float = 0.5
    """Seconds between two bookmarks of a watch that asks for them."""
    latency: float = 0.0
    """Seconds before every answer."""
    cut_logs: float = 0.0
    """A log that is followed is cut off after so many seconds; 0: never."""
    duplicate: bool = False
    """Watches bring every event twice."""
    reorder: bool = False
    """Watches bring neighbouring events in the wrong order."""
    lose_answers: set[str] = field(factory=set)
    """Requests, such as ``create pods``, that are done once and whose answer does not arrive."""
    forbidden: set[tuple[str, str]] = field(factory=set)
    """Verb and resource (``pods/log``) that are refused."""
    requests: Counter[str] = field(factory=Counter)
    """By verb and resource: ``create pods``."""
    _fault: int = 0
    _faults: int = 0
    _port: int = 0
    _runner: web.AppRunner | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, **fields: Any) -> AsyncIterator[Self]:
        """`folder` gets the file `kubeconfig`."""
        api = cls(**fields)
        await api.up()
        api.kubeconfig = folder / "kubeconfig"
        api.kubeconfig.write_text(known.kubeconfig(api.address))
        try:
            yield api
        finally:
            for life in api._lives.values():
                life.cancel()
            await api.down()

    # -- faults ----------------------------------------------------------------------------------------------

    async def down(self) -> None:
        """The server is gone: connections break, and no one listens. Pods live on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def up(self) -> None:
        """The server listens, at the same address as before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{self._port}"

    def fail(self, status: int, times: int = 1_000_000) -> None:
        """The next `times` requests are answered with this status; 0 ends it."""
        self._fault, self._faults = status, times if status else 0

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """The requests that come while entered."""
        before, found = Counter(self.requests), Counter[str]()
        yield found
        found.update(self.requests - before)

    # -- answers ---------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.latency:
            await asyncio.sleep(self.latency)
        if self._faults:
            self._faults -= 1
            return known.status(self._fault, "InternalError", "a fault that the test has asked for")
        parts = request.path.strip("/").split("/")
        if parts[-1] == "selfsubjectaccessreviews":
            return await self._review(request)
        if parts[:3] != ["api", "v1", "namespaces"] or len(parts) < 5 or parts[4] not in self.objects:
            return known.status(404, "NotFound", "the server could not find the requested resource")
        namespace, resource, rest = parts[3], parts[4], parts[5:]
        verb = known.verb(request, rest)
        message = "/".join([resource, *rest[1:]])
        self.requests[f"{verb} {message}"] += 1
        self._seen.notify_all()
        if (verb, message) in self.forbidden:
            return known.status(
                403, "Forbidden", f'{message} is forbidden: User "test" cannot {verb} resource "{message}"'
            )
        if namespace not in self.namespaces:
            if verb in ("list", "watch"):
                return web.json_response(self._listed(resource, []))
            return known.status(404, "NotFound", f'namespaces "{namespace}" not found')
        if not rest:
            if verb == "watch":
                return await self._watch(request, namespace, resource)
            if verb == "list":
                return web.json_response(self._listed(resource, self._matching(request, namespace, resource)))
            answer = await self._create(request, namespace, resource)
            if f"create {resource}" in self.lose_answers and request.transport is not None:
                self.lose_answers.discard(f"create {resource}")
                request.transport.close()
            return answer
        found = self.objects[resource].get((namespace, rest[0]))
        if found is None:
            return known.status(404, "NotFound", f'{resource} "{rest[0]}" not found')
        if rest[1:] == ["log"]:
            return await self._log(request, found)
        if verb == "delete":
            return await self._delete(request, resource, found)
        return web.json_response(found)

    async def _review(self, request: web.Request) -> web.Response:
        self.requests["create selfsubjectaccessreviews"] += 1
        review = await request.json()
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        review["status"] = {"allowed": (asked["verb"], resource) not in self.forbidden}
        return web.json_response(review, status=201)

    def _listed(self, resource: str, items: list[Object]) -> Object:
        kind = {"pods": "PodList", "secrets": "SecretList", "events": "EventList"}[resource]
        metadata = {"resourceVersion": str(self._version)}
        return {"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items}

    def _matching(self, request: web.Request, namespace: str, resource: str) -> list[Object]:
        return [
            found
            for (where, _), found in self.objects[resource].items()
            if where == namespace and known.selects(request, found)
        ]

    async def _create(self, request: web.Request, namespace: str, resource: str) -> web.Response:
        try:
            body = json.loads(await request.read())
        except ValueError:
            return known.status(400, "BadRequest", "the body of the request is no JSON")
        name = str(body["metadata"].get("name") or "")
        if wrong := known.invalid(name, body["metadata"].get("labels") or {}):
            return known.status(422, "Invalid", f'{resource} "{name}" is invalid: {wrong}')
        if (namespace, name) in self.objects[resource]:
            return known.status(409, "AlreadyExists", f'{resource} "{name}" already exists')
        made = self._make(resource, namespace, body)
        if resource == "pods":
            self.created.append(name)
            made["status"] = {"phase": "Pending"}
            self._changed("ADDED", made)
            uid = made["metadata"]["uid"]
            self._logs[uid] = PodLog()
            self._lives[uid] = asyncio.create_task(self._live(made))
        return web.json_response(made, status=201)

    async def _delete(self, request: web.Request, resource: str, found: Object) -> web.Response:
        options = json.loads(await request.read() or b"{}")
        wanted = (options.get("preconditions") or {}).get("uid")
        meta = found["metadata"]
        if wanted and wanted != meta["uid"]:
            return known.status(409, "Conflict", f"the UID in the precondition ({wanted}) is not {meta['uid']}")
        current = self.objects[resource].get((meta["namespace"], meta["name"]), found)
        if resource == "pods":
            meta = current["metadata"]
            meta.setdefault("deletionTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            self._changed("MODIFIED", current)
            asyncio.get_running_loop().call_soon(self._vanish, current)
        else:
            self.objects[resource].pop((meta["namespace"], meta["name"]), None)
        return web.json_response(current)

    # -- watch -----------------------------------------------------------------------------------------------

    async def _watch(self, request: web.Request, namespace: str, resource: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        version = int(request.query.get("resourceVersion") or 0)
        seconds = float(request.query.get("timeoutSeconds") or 1800)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                if version < self._forgotten:
                    await known.send(response, "ERROR", known.status_object(410, "Expired", "too old resource version"))
                    return response
                await self._send_events(request, response, namespace, version)
        return response

    async def _send_events(
        self, request: web.Request, response: web.StreamResponse, namespace: str, version: int
    ) -> None:
        wants_bookmarks = request.query.get("allowWatchBookmarks") == "true"
        while True:
            if version < self._forgotten:
                await known.send(response, "ERROR", known.status_object(410, "Expired", "too old resource version"))
                return
            batch = [entry for entry in self._history if entry[0] > version]
            version = batch[-1][0] if batch else version
            if self.reorder:
                batch = [entry for at in range(0, len(batch), 2) for entry in reversed(batch[at : at + 2])]
            for _, kind, thing in batch:
                if thing["metadata"]["namespace"] == namespace and known.selects(request, thing):
                    for _ in range(2 if self.duplicate else 1):
                        await known.send(response, kind, thing)
            try:
                async with asyncio.timeout(self.bookmarks):
                    while self._version <= version:
                        await self._news.wait()
            except TimeoutError:
                if wants_bookmarks:
                    mark = {"kind": "Pod", "metadata": {"resourceVersion": str(version)}}
                    await known.send(response, "BOOKMARK", mark)

    # -- log -------------------------------------------------------------------------------------------------

    async def _log(self, request: web.Request, pod: Object) -> web.StreamResponse:
        name, statuses = pod["metadata"]["name"], pod["status"].get("containerStatuses") or ()
        container = pod["spec"]["containers"][0]["name"]
        for status in statuses:
            if reason := status["state"].get("waiting", {}).get("reason"):
                message = f'container "{container}" in pod "{name}" is waiting to start: {reason}'
                return known.status(400, "BadRequest", message)
        log = self._logs.get(pod["metadata"]["uid"], PodLog(ended=True))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow = request.query.get("follow") == "true" and bool(statuses)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self.cut_logs or None if follow else None):
                await self._send_log(request, response, log, follow=follow)
        return response

    async def _send_log(self, request: web.Request, response: web.StreamResponse, log: PodLog, *, follow: bool) -> None:
        since, stamps = request.query.get("sinceTime", ""), request.query.get("timestamps") == "true"
        at = 0
        while True:
            chunk = ""
            for stamp, text in log.entries[at:]:
                if not since or stamp[:19] >= since[:19]:
                    chunk += f"{stamp} {text}" if stamps else text
            at = len(log.entries)
            if chunk:
                await response.write(chunk.encode())
            if not follow or (log.ended and at == len(log.entries)):
                return
            while not log.ended and len(log.entries) == at:
                await log.news.wait()
