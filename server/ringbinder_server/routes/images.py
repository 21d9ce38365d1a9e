"""Whether an image is there, without starting anything: for programs, and as a badge."""

from __future__ import annotations

from typing import Any

import attrs
from quart import Blueprint, Response, jsonify
from ringbinder.errors import Refused, RingbinderError, TransientError, UserError
from ringbinder.model import Image, ImageState, Plan
from ringbinder.runtime.caching import Cache, SingleFlight
from ringbinder.secret import redact

from ..request_context import Site, urlpath_asked

_MOST = 2000
_GOOD_FOR = 15.0
_ON_BADGES = 60
_NOT_FOUND = frozenset({"provider-left-out", "provider-unknown", "ref-not-found", "repo-not-found"})
_COLOURS = {
    "ready": "#107c41", "building": "#b45309", "cold": "#57606a", "broken": "#b42318", "unknown": "#57606a",
}  # fmt: skip
_BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" \
aria-label="launch: {word}"><title>launch: {word}</title><rect width="{width}" height="20" rx="3" fill="#24292f"/>\
<path d="M50 0h{right}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H50z" fill="{colour}"/>\
<g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">\
<text x="7" y="14">launch</text><text x="57" y="14">{word}</text></g></svg>
"""


@attrs.frozen
class _Found:
    """What a link led to when it was looked up."""

    plan: Plan
    image: Image | None
    ended: int
    """How many builds had ended by then."""


@attrs.define(eq=False)
class _Looked:
    """Links that were looked up in the last seconds: a page that many read asks once.

    What providers and registries say is remembered; the state of builds and launches is current.
    """

    site: Site
    cache: Cache[tuple[str, str, str], _Found]
    flight: SingleFlight[tuple[str, str, str], _Found] = attrs.field(factory=SingleFlight)

    async def at(self, provider: str, spec: str) -> ImageState:
        """Raises what a provider or registry raises."""
        binder, wish = self.site.binder, self.site.wish(provider, spec, urlpath_asked())
        key = provider, spec, wish.urlpath

        async def look() -> _Found:
            ended = binder.runs.ended
            found = _Found(*await binder.find(await binder.resolve(wish)), ended)
            self.cache.put(key, found, _GOOD_FOR)
            return found

        found = self.cache.get(key)
        if found is None or (found.image is None and found.ended != binder.runs.ended):
            found = await self.flight(key, look)
        return await binder.image_state(found.plan, found.image)


def routes(site: Site) -> Blueprint:
    """The blueprint with the state for programs and, where there are pages, the badge."""
    blueprint = Blueprint("images", __name__)
    looked = _Looked(site, Cache(_MOST, site.binder.services.clock.monotonic))

    @blueprint.get("/api/v1/images/<segment:provider>/<rest:spec>")
    async def image(provider: str, spec: str) -> Response:
        try:
            found = await looked.at(provider, spec)
        except RingbinderError as error:
            return refusal(error)
        return jsonify(
            provider=provider,
            spec=spec,
            resolved_spec=found.repo.resolved_spec,
            ref=found.repo.ref,
            repo_url=found.repo.url,
            image=found.image,
            state=found.state,
            built=found.state == "ready",
            built_at=found.built_at,
            last_build_seconds=found.last_build_seconds,
            usual_launch_seconds=found.usual_launch_seconds,
            queue={"position": found.place} if found.place is not None else None,
        )

    if site.settings.enable_api_only_mode:
        return blueprint

    @blueprint.get("/badge/<segment:provider>/<rest:spec>.svg")
    async def badge(provider: str, spec: str) -> Response:
        try:
            word: str = (await looked.at(provider, spec)).state
        except RingbinderError:
            word = "unknown"
        width = 64 + round(6.6 * len(word))
        picture = _BADGE.format(word=word, colour=_COLOURS[word], width=width, right=width - 53)
        headers = {"Cache-Control": f"public, max-age={_ON_BADGES}"}
        return Response(picture, content_type="image/svg+xml; charset=utf-8", headers=headers)

    return blueprint


def refusal(error: RingbinderError) -> Response:
    """The answer that tells an error which is no bug. Raises one that is."""
    headers: dict[str, Any] = {}
    match error:
        case UserError():
            code, status = error.code, 404 if error.code in _NOT_FOUND else 400
        case Refused():
            code, status = "refused", error.status
        case TransientError():
            code, status = "try-again", 503
        case _:
            raise error
    wait = getattr(error, "retry_after", None)
    if wait is not None:
        headers["Retry-After"] = str(max(1, round(wait)))
    response = jsonify(code=code, message=redact(str(error)))
    response.status_code = status
    response.headers.update(headers)
    return response
