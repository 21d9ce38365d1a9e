"""Every form of path that links ask a launched server to open, as mybinder.org does."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

import aiohttp
from ringbinder.launches.links import parse_link, path_to_open
from yarl import URL

from .notebooks import notebook

FILES: Final = {"folder/first.ipynb": notebook("print(6*7)"), "folder/data.txt": "some data\n"}
_LAB, _TREE = "JupyterLab", "Jupyter Notebook tree"

_LINKS: Final = {
    "": _LAB,
    "labpath=folder%2Ffirst.ipynb": _LAB,
    "filepath=folder": _TREE,
    "filepath=folder/first.ipynb": "Jupyter Notebook notebooks",
    "urlpath=lab": _LAB,
    "urlpath=lab%3Fpath%3Dfolder%252Ffirst.ipynb": _LAB,
    "urlpath=lab/tree/folder/first.ipynb": _LAB,
    "urlpath=lab/workspaces/other/tree/folder": _LAB,
    "urlpath=%2Ftree%2F": _TREE,
    "urlpath=edit/folder/data.txt": "Jupyter Notebook edit",
    "urlpath=consoles/folder/first.ipynb": "Jupyter Notebook consoles",
    "urlpath=terminals/1": "Jupyter Notebook terminals",
    "urlpath=files/folder/data.txt": "some data",
    "urlpath=view/folder/data.txt": "data.txt",
    "urlpath=nbconvert/html/folder/first.ipynb": "<title>first</title>",
    f"urlpath={quote('git-pull?repo=https%3A%2F%2Fgit.example%2Fu%2Frepo&urlpath=lab%2Ftree%2Frepo')}": "git-pull",
}
_LEGACY: Final = "http://mybinder.org/repo/owner/name/notebooks/folder/first.ipynb"

PAGES: Final = {path_to_open(query): page for query, page in _LINKS.items()} | {
    parse_link(_LEGACY, ["gh"], lambda text: None).urlpath: "Jupyter Notebook notebooks"
}
"""Paths that links open, each with what its page must show: the application and its page, or a piece of the content."""


async def shown(url: str, token: str, path: str) -> str:
    """The page at `path` of the server at `url`, opened as a launch page opens it; an application by its name."""
    mark = "&" if "?" in path else "?"
    async with (
        aiohttp.ClientSession() as http,
        http.get(URL(f"{url}{path}{mark}token={token}", encoded=True)) as answer,
    ):
        page = await answer.text()
        assert answer.status == 200, f"{path}: {answer.status}"
    _, found, config = page.partition('<script id="jupyter-config-data" type="application/json">')
    if not found:
        return page
    config = json.loads(config.partition("</script>")[0])
    return " ".join(filter(None, (config.get("appName"), config.get("notebookPage"))))
