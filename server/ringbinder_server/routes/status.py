"""What programs ask: health, versions, metrics, the meaning of a link."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from quart import Blueprint, Response, jsonify, request
from ringbinder.errors import UserError
from ringbinder.launches.links import split_spec, v2_path
from ringbinder.model import Health, Link
from ringbinder.runtime.caching import Cache
from ringbinder.runtime.metrics import WithoutRepos
from ringbinder.secret import redact

from ..request_context import Site
from ..version import VERSION

_NO_STORE = {"Cache-Control": "no-store"}
_HEALTH_GOOD_FOR = 15.0
"""Seconds; probes of several kinds must not ask registry and hub each for itself."""


def routes(site: Site) -> Blueprint:
    """The blueprint with all of them."""
    blueprint = Blueprint("api", __name__)
    binder = site.binder
    registry = binder.services.metrics.registry
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)

    looked: Cache[str, Sequence[Health]] = Cache(1, binder.services.clock.monotonic)

    @blueprint.get("/health")
    async def health() -> Response:
        lines = await looked.load("health", binder.health, _HEALTH_GOOD_FOR)
        checks = [_check(line) for line in lines]
        ok = all(check["ok"] or check.get("_ignore_failure") for check in checks)
        response = jsonify(ok=ok, checks=checks)
        response.status_code = 200 if ok else 503
        response.headers.update(_NO_STORE)
        return response

    @blueprint.get("/versions")
    async def versions() -> Response:
        # Federations compare this whole object between members: nothing in it changes while running.
        names = binder.plugins.builders
        more: dict[str, Any] = {}
        for name in reversed(names):  # what the first one has counts
            more |= getattr(binder.plugins.get("builder", name), "builder_info", {})
        older = {"builder": more["build_image"]} if "build_image" in more else {}
        return jsonify(
            **older,
            builder_info=more,
            binderhub=f"0.2.0+ringbinder.{VERSION}",
            ringbinder=VERSION,
            ringbinder_builder=", ".join(names),
        )

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        # Who has logged in does not learn what others launch; a program with an account of its own may.
        named = not site.settings.auth_enabled or (site.user is not None and site.user.service)
        text = await asyncio.to_thread(generate_latest, registry if named else WithoutRepos(registry))
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    @blueprint.get("/api/v1/link")
    async def link() -> Response:
        try:
            found = site.link(request.args.get("text", ""))
        except UserError as error:
            response = jsonify(code=error.code, message=redact(error.message))
            response.status_code = 400
            return response
        return jsonify(described(site, found))

    return blueprint


def described(site: Site, link: Link) -> dict[str, str]:
    """What a link means, for the pages: provider, repository, ref, what opens, and the address of it."""
    info = site.binder.providers().get(link.provider)
    repository, ref = split_spec(info, link.spec) if info else (link.spec, "")
    return {
        "provider": link.provider,
        "provider_name": info.display_name if info else link.provider,
        "spec": link.spec,
        "repository": repository,
        "ref": ref,
        "urlpath": link.urlpath,
        "path": v2_path(link),
        "address": site.public_address + v2_path(link),
        "badge": site.public_address + "badge_logo.svg",
    }


def _check(line: Health) -> dict[str, Any]:
    detail = {key: redact(value) if isinstance(value, str) else value for key, value in line.detail.items()}
    ignored = {"_ignore_failure": True} if line.ignore_failure else {}
    return {"service": line.service, **detail, "ok": line.ok, **ignored}
