"""How the pages look, and what they may do: templates, an operator's own HTML, and the policy against the rest.

Names of options, templates and variables are BinderHub's (its `BinderHub` class and its `page.html`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import Any, Final

from attrs import Factory, define, field
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PrefixLoader
from quart import Quart, Response, g

from . import own_templates
from .provider_list import repo_providers
from .request_context import Site
from .terminal import one_line
from .version import VERSION

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
_INLINE: Final = re.compile(r"<(script|style)\b", re.IGNORECASE)


def _hash_of_static_files() -> str:
    found = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


@define(eq=False)
class Look:
    """What all pages share."""

    site: Site
    version: str = field(init=False, factory=_hash_of_static_files)
    """Stands in the addresses of the static files, so that they can be cached for ever."""
    _page_config: dict[str, Any] = field(
        init=False, default=Factory(lambda self: self._make_page_config(), takes_self=True)
    )

    @property
    def page_config(self) -> dict[str, Any]:
        """``window.pageConfig`` for the current request; scripts and tests of BinderHub's read it.

        Protocol reference, 1.2.
        """
        return {**self._page_config, "badgeBaseUrl": self.site.badge_address}

    def _make_page_config(self) -> dict[str, Any]:
        settings = self.site.settings
        return {
            "baseUrl": settings.base_url,
            "logoUrl": self.static_url("favicon.svg"),
            "logoWidth": "320px",
            "repoProviders": repo_providers(self.site.binder),
            "aboutMessage": settings.about_message,
            "bannerHtml": settings.banner_message,
            "binderVersion": VERSION,
        }

    def install(self, app: Quart) -> None:
        """Gives `app` the templates, their variables and the policy of the answers that are pages.

        Raises ConfigError if an operator's folder is not there or a template in it is broken. Blocks that no
        page shows are in the log.
        """
        app.jinja_env.filters["one_line"] = one_line
        app.jinja_env.loader = _loader(self.site.settings.template_path)
        if own := self.site.settings.template_path:
            for what in own_templates.judge(app.jinja_env, own, _HERE / "templates"):
                self.site.binder.log.warning("a block of a template is not shown", reason=what)
        app.context_processor(self._variables)

        @app.after_request
        async def add_policy(response: Response) -> Response:
            if nonce := g.get("nonce"):
                response.headers["Content-Security-Policy"] = self.policy(nonce)
            return response

    async def _variables(self) -> dict[str, Any]:
        settings = self.site.settings
        nonce = g.nonce = secrets.token_urlsafe(16)
        return {
            "base_url": settings.base_url,
            "static_url": self.static_url,
            "banner": settings.banner_message,
            "about": settings.about_message,
            "version": VERSION,
            "nonce": nonce,
            "user": self.site.user,
            "is_own_machine": self.site.is_own_machine,
            "access_key": self.site.access_key,
            "can_log_out": self.site.binder.plugins.hooks.answered("log_out"),
            "opengraph_title": settings.default_opengraph_title,
            "page_config": self.page_config,
            "extra_header_html": {
                key: _INLINE.sub(rf'<\1 nonce="{nonce}"', html) for key, html in settings.extra_header_html.items()
            },
            "extra_footer_scripts": settings.extra_footer_scripts,
            **settings.template_variables,
        }

    def static_url(self, name: str) -> str:
        """The address of one of our static files."""
        return f"{self.site.settings.base_url}static/{self.version}/{name}"

    def policy(self, nonce: str) -> str:
        """The Content-Security-Policy of a page: our own files, inline only what has `nonce`.

        Text of repositories is never markup; this holds should that fail. An operator's own HTML may have
        ``style`` attributes, as banners mostly do.
        """
        settings = self.site.settings
        sources = " ".join(["'self'", *self.site.binder.config.settings.page_sources])
        members = self.site.binder.config.settings.federation_members
        connect = f"; connect-src {' '.join([sources, *members])}" if members else ""
        own_html = settings.banner_message or settings.about_message or settings.template_path
        styles = "; style-src-attr 'unsafe-inline'" if own_html else ""
        return (
            f"default-src {sources}; script-src {sources} 'nonce-{nonce}'; style-src {sources} 'nonce-{nonce}'"
            f"{styles}{connect}; img-src {sources} data:; base-uri 'none'; object-src 'none'; form-action 'self'; "
            # A foreign page must not frame the button "Launch".
            f"frame-ancestors 'none'"
        )


def _loader(own: Path | None) -> BaseLoader:
    """An operator's template stands before ours, and can extend it as ``templates/<name>``."""
    packaged = FileSystemLoader(_HERE / "templates")
    folders = [FileSystemLoader(own)] if own else []
    return ChoiceLoader([PrefixLoader({"templates": packaged}), *folders, packaged])
