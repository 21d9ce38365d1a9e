"""Configuration of a notebook's Jupyter server, which reads it from `SharedServer`'s folder of settings.

nbgitpuller clones what an address names to where it says, also over other folders of this account (``targetpath``,
``backup``), for every page that sends the browser to the server's port. Here it clones into the notebook's own
folder, and only for a request with the token or from one of the server's pages.

The tree page of a file that is no notebook sends the browser to ``files/``, which refuses whom another site's page sent
(403). Here it sends to JupyterLab, which shows the file.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.utils import ensure_async, url_escape, url_path_join
from tornado import web

_PROTOCOLS = ("http", "https")


def _refusal(handler: Any) -> str:
    """Why nbgitpuller must not do what `handler` was asked for; empty if it may."""
    # Cookies know no ports and come along from pages of other sites, where these lead the browser here.
    if not handler.token_authenticated and handler.request.headers.get("Sec-Fetch-Site") != "same-origin":
        return "The address has no token: open the link at Ringbinder."
    repo = handler.get_argument("repo", "")
    if urlsplit(repo).scheme not in _PROTOCOLS:
        return "Only repositories at http and https addresses are cloned here."
    name = repo.rstrip("/").split("/")[-1]
    root = Path(handler.settings["server_root_dir"]).expanduser().resolve()
    parent = root / os.environ.get("NBGITPULLER_PARENTPATH", "")
    for argument in ("targetpath", "targetPath"):
        target = (parent / handler.get_argument(argument, name)).resolve()
        steps = target.relative_to(root).parts if target.is_relative_to(root) else ()
        if not steps or any(step.startswith(".") for step in steps):
            return "The targetPath must be a folder below the notebook's own, and no hidden one."
    return ""


def _guarded(get: Any) -> Any:
    async def guarded(handler: Any) -> None:
        if why := _refusal(handler):
            raise web.HTTPError(403, why)
        await get(handler)

    return web.authenticated(guarded)


def _shown_in_lab(get: Any) -> Any:
    async def tree(handler: Any, path: str = "") -> None:
        file = path.strip("/")
        if file.endswith(".ipynb") or not await ensure_async(handler.contents_manager.file_exists(file)):
            await get(handler, path)
        else:
            handler.redirect(url_path_join(handler.base_url, "lab", "tree", url_escape(file)))

    return web.authenticated(tree)


try:
    from notebook.app import TreeHandler
except ImportError:
    pass  # an environment of the repository's own need not have it
else:
    TreeHandler.get = _shown_in_lab(TreeHandler.get)

try:
    from nbgitpuller import handlers
except ImportError:
    pass
else:
    for handler in (handlers.SyncHandler, handlers.UIHandler):
        handler.get = _guarded(handler.get)
