"""Every form of path that links ask a launched server to open, as mybinder.org does."""

from __future__ import annotations

import json
from typing import Final

import aiohttp
from yarl import URL

from .notebooks import notebook

FILES: Final = {"folder/first.ipynb": notebook("print(6*7)"), "folder/data.txt": "some data\n"}
_LAB, _TREE = "JupyterLab", "Jupyter Notebook tree"

PAGES: Final = {
    "": _LAB,
    "lab": _LAB,
    "lab?path=folder%2Ffirst.ipynb": _LAB,
    "lab/tree/folder/first.ipynb": _LAB,
    "lab/workspaces/other/tree/folder": _LAB,
    "doc/tree/folder/first.ipynb": _LAB,  # ?labpath=
    "tree": _TREE,
    "tree/": _TREE,
    "tree/folder": _TREE,
    "tree/folder/first.ipynb": "Jupyter Notebook notebooks",  # ?filepath=
    "notebooks/folder/first.ipynb": "Jupyter Notebook notebooks",
    "edit/folder/data.txt": "Jupyter Notebook edit",
    "consoles/folder/first.ipynb": "Jupyter Notebook consoles",
    "terminals/1": "Jupyter Notebook terminals",
    "files/folder/data.txt": "some data",
    "view/folder/data.txt": "data.txt",
    "nbconvert/html/folder/first.ipynb": "<title>first</title>",
    "git-pull?repo=https%3A%2F%2Fgit.example%2Fu%2Frepo&branch=main&urlpath=lab%2Ftree%2Frepo": "git-pull",
}
"""Paths, each with what its page must show: the application and its page, or a piece of the content."""


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
