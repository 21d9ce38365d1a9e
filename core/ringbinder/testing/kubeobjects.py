"""What the small Kubernetes API server of the tests knows of objects and answers: names, selectors, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from .kubescript import Object

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SET: Final = re.compile(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_TERM: Final = re.compile(r"(?:[^,(]|\([^)]*\)?)+")


def images(pod: Object) -> Iterator[str]:
    for container in pod["spec"]["containers"]:
        for word in container.get("args") or ():
            if word.startswith("--image="):
                yield word.removeprefix("--image=")


def verb(request: web.Request, rest: Sequence[str]) -> str:
    if request.method == "POST":
        return "create"
    if request.method == "DELETE":
        return "delete"
    if rest:
        return "get"
    return "watch" if request.query.get("watch") == "true" else "list"


def selects(request: web.Request, thing: Object) -> bool:
    """Whether the request's selectors match."""
    labels = thing["metadata"].get("labels") or {}
    for term in _TERM.findall(request.query.get("labelSelector", "")):
        if found := _SET.fullmatch(term):
            among = {value.strip() for value in found[3].split(",")}
            if (labels.get(found[1]) in among) != (found[2] == "in"):
                return False
        elif "!=" in term:
            name, _, value = term.partition("!=")
            if labels.get(name) == value:
                return False
        else:
            name, sign, value = term.replace("==", "=").partition("=")
            if name not in labels or (sign and labels[name] != value):
                return False
    for term in filter(None, request.query.get("fieldSelector", "").split(",")):
        path, _, value = term.partition("=")
        place: Any = thing
        for step in path.split("."):
            place = place.get(step, {}) if isinstance(place, dict) else {}
        if place != value:
            return False
    return True


def invalid(name: str, labels: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name) or len(name) > 253:
        return f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of ...'
    for value in labels.values():
        if not _LABEL.fullmatch(value) or len(value) > 63:
            return f'metadata.labels: Invalid value: "{value}": a valid label must be ...'
    return ""


def status_object(code: int, reason: str, message: str) -> Object:
    fields = {"status": "Failure", "message": message, "reason": reason, "code": code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **fields}


def status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(status_object(code, reason, message), status=code)


async def send(response: web.StreamResponse, kind: str, thing: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def kubeconfig(address: str) -> str:
    context = {"cluster": "test", "user": "test", "namespace": "binder"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "test", "user": {"token": "a-token-of-the-tests"}}],
            "contexts": [{"name": "test", "context": context}],
        }
    )
