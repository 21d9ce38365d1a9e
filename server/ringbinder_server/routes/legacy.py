"""Addresses that BinderHub has, or had, beside its protocol."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, jsonify, redirect
from ringbinder.config.settings import BinderHubSettings
from werkzeug.wrappers import Response as Redirect

from ..provider_list import repo_providers
from ..request_context import Site

_ROBOTS = "User-agent: *\nDisallow: /\n"
_QUOTED = {"/": "%2F", "?": "%3F", "&": "%26", "#": "%23"}


def routes(site: Site) -> Blueprint:
    """The blueprint with what programs ask."""
    blueprint = Blueprint("legacy", __name__)

    @blueprint.get("/api/repoproviders")
    async def providers() -> Response:
        return jsonify(repo_providers(site.binder))

    @blueprint.get("/_config")
    async def config() -> Response:
        return jsonify({each["id"]: _labels(each) for each in repo_providers(site.binder)})

    return blueprint


def redirects(settings: BinderHubSettings) -> Blueprint:
    """The blueprint with links of the time when there was GitHub alone."""
    blueprint = Blueprint("redirects", __name__)

    @blueprint.get("/repo/<segment:user>/<rest:rest>")
    async def repo(user: str, rest: str) -> Redirect:
        repo, slash, path = rest.partition("/")
        # The path is as it was sent; within the parameter, what has a meaning there is quoted.
        opened = "".join(_QUOTED.get(character, character) for character in slash + path if path)
        query = f"?urlpath={opened}" if opened else ""
        return redirect(f"{settings.base_url}v2/gh/{user}/{repo}/master{query}", 302)

    return blueprint


def robots(settings: BinderHubSettings) -> Blueprint:
    """The blueprint with `robots.txt`, which crawlers look for at the root of the host."""
    blueprint = Blueprint("robots", __name__)

    async def robots_txt() -> Response:
        return Response(_ROBOTS, content_type="text/plain; charset=utf-8")

    for path in {"/robots.txt", f"{settings.base_url}robots.txt"}:
        blueprint.add_url_rule(path, f"at {len(path)}", robots_txt, methods=["GET"])
    return blueprint


def _labels(provider: dict[str, Any]) -> dict[str, Any]:
    """The form's words, as `/_config` had them until December 2024."""
    has_ref = provider["ref"]["enabled"]
    return {
        "text": provider["repo"]["label"],
        "tag_text": "Git ref (branch, tag, or commit)" if has_ref else "",
        "ref_prop_disabled": not has_ref,
        "label_prop_disabled": not has_ref,
    }
