"""What people see: the home, launch and about pages, badges, icons and the files that the pages need."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from quart import Blueprint, Response, abort, redirect, render_template, request, send_from_directory
from ringbinder.errors import ConfigError, UserError
from ringbinder.launches.consent import other_repositories
from ringbinder.launches.links import path_to_open, provider_left_out, v2_path
from ringbinder.model import Link
from werkzeug.wrappers import Response as Redirect

from ..request_context import Site
from ..templating import STATIC, Look
from .status import described

_FOREVER = 365 * 24 * 3600
_DAY = 24 * 3600
_NO_CACHE = {"Cache-Control": "private, no-cache"}


def routes(site: Site, look: Look) -> Blueprint:
    """The blueprint with all pages. Raises ConfigError if the folder `extra_static_path` is not there."""
    blueprint = Blueprint("pages", __name__)
    consents = site.binder.consents()

    def may_start(allowed: bool) -> bool:
        # A page that sends its visitor here must not thereby run code on the visitor's own machine, or with the
        # visitor's account; nor must an address that somebody wrote run it on the machine, until this visitor has
        # pressed Launch for that repository once.
        return allowed and request.headers.get("Sec-Fetch-Site") in ("none", "same-origin")

    @blueprint.get("/")
    async def home() -> Response | Redirect:
        text, problem = request.args.get("link", ""), ""
        if text:  # the form without JavaScript
            try:
                return redirect(site.settings.base_url + v2_path(site.link(text)), 303)
            except UserError as error:
                problem = error.message
        page = await render_template("index.html", text=text, problem=problem)
        return Response(page, 400 if problem else 200, headers=_NO_CACHE)

    @blueprint.get("/about")
    async def about() -> Response:
        return Response(await render_template("about.html"), headers=_NO_CACHE)

    @blueprint.get("/v2/<segment:provider>/<rest:spec>")
    async def launch(provider: str, spec: str) -> Response:
        if provider not in site.binder.plugins.providers:
            plugins = site.binder.plugins
            known = ", ".join(plugins.providers)
            message = f'There is no provider "{provider}" here; there are {known}.'
            if reason := plugins.left_out.get(provider):
                message = provider_left_out(provider, reason).message
            return Response(await render_template("error.html", title="Not found", message=message), 404)
        problem = ""
        try:
            urlpath = path_to_open(request.query_string.decode("ascii", "replace"))
        except UserError as error:
            urlpath, problem = "", error.message
        link = described(site, Link(provider, spec.rstrip("/"), urlpath))
        token = site.build_token(provider, spec)
        others = other_repositories(urlpath)
        allowed = await consents.given(Link(provider, spec.rstrip("/")))
        data = {
            **link,
            "spec": spec,
            "build_token": token,
            # A little less, for what lies on the way.
            "token_seconds": 0.9 * site.settings.build_token_expires_seconds,
            "base": site.settings.base_url,
            "allowed": allowed,
            "by_itself": not (consents.asks or site.user) or may_start(allowed and not others),
            "problem": problem,
            "by_cookie": site.user is not None,
            "silence": 2.5 * site.binder.config.settings.keepalive,
        }
        page = await render_template(
            "loading.html",
            link=link,
            rights=consents.rights,
            others=others,
            data=data,
            page_config={**look.page_config, "buildToken": token},
            opengraph_title=f"{link['provider_name']}: {spec}",
        )
        return Response(page, headers=_NO_CACHE)

    @blueprint.get("/static/<segment:version>/<rest:name>")
    async def static(version: str, name: str) -> Response:
        if version != look.version:
            abort(404)
        response = await send_from_directory(STATIC, name, cache_timeout=_FOREVER)
        response.headers["Cache-Control"] = f"public, max-age={_FOREVER}, immutable"
        return response

    for path, name in (
        ("/badge.svg", "badge.svg"),
        ("/badge_logo.svg", "badge_logo.svg"),
        ("/favicon.ico", "favicon.svg"),
    ):
        blueprint.add_url_rule(path, path[1:].partition(".")[0], _picture(name), methods=["GET"])
    if site.settings.extra_static_path is not None:
        _serve_folder(blueprint, site.settings.extra_static_path, site.settings.extra_static_url_prefix)
    return blueprint


def _picture(name: str) -> Any:
    async def send() -> Response:
        response = await send_from_directory(STATIC, name, cache_timeout=_DAY)
        response.headers["Cache-Control"] = f"public, max-age={_DAY}"
        return response

    return send


def _serve_folder(blueprint: Blueprint, folder: Path, prefix: str) -> None:
    if not folder.is_dir():
        raise ConfigError([f"BinderHub.extra_static_path: there is no folder {folder}"])

    @blueprint.get(f"{quote(prefix)}<rest:name>")
    async def extra_static(name: str) -> Response:
        return await send_from_directory(folder, unquote(name))
