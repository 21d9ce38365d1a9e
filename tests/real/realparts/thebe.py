"""thebe and thebe-core as a page has them: a cell that a Binder's notebook server runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .npm import Pages

if TYPE_CHECKING:
    from playwright.async_api import Page

_CORE = """
async (given) => {
  const { makeConfiguration, makeRenderMimeRegistry, setupNotebookFromBlocks } = window.thebeCore.api;
  const { ThebeServer } = window.thebeCore.module;
  const config = makeConfiguration(given.options);
  const server = new ThebeServer(config);
  const said = [];
  config.events.on("status", (_, data) => said.push(data.message));
  await server.connectToServerViaBinder();
  await server.ready;
  const rendermime = makeRenderMimeRegistry();
  const session = await server.startNewSession(rendermime);
  const notebook = setupNotebookFromBlocks([{ id: "one", source: given.code }], config, rendermime);
  notebook.attachSession(session);
  await notebook.executeAll();
  return { outputs: JSON.stringify(notebook.cells[0].outputs), said };
}
"""


async def run_with_thebe_core(page: Page, site: Pages, address: str, repository: str, code: str) -> str:
    """What `code` has put out, run by thebe-core at the Binder of `address` with the git `repository`."""
    (site.folder / "core.html").write_text(
        '<!doctype html><meta charset="utf-8"><script src="thebe-core/dist/lib/thebe-core.min.js"></script>'
    )
    await page.goto(f"{site.origin}/core.html")
    await page.wait_for_function("window.thebeCore && window.thebeCore.api")
    ran = await page.evaluate(_CORE, {"options": _options(address, repository), "code": code})
    assert ran["outputs"] != "[]", ran
    return str(ran["outputs"])


async def run_with_thebe(page: Page, site: Pages, address: str, repository: str, code: str) -> None:
    """Presses "run" at the cell with `code` of a page with thebe; what it puts out then stands in the page."""
    (site.folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="thebe/lib/thebe.css">'
        f'<script type="text/x-thebe-config">{json.dumps(_options(address, repository))}</script>'
        '<script src="thebe/lib/index.js"></script>'
        f'<pre data-executable="true" data-language="python">{code}</pre>'
    )
    await page.goto(f"{site.origin}/page.html")
    # It looks for this one in its argument only.
    await page.evaluate("() => { window.bootstrapped = window.thebe.bootstrap({ requestKernel: true }); }")
    await page.evaluate("() => window.bootstrapped.then(() => true)")
    await page.click(".thebe-run-button")


def _options(address: str, repository: str) -> dict[str, Any]:
    return {
        "useBinder": True,
        "requestKernel": True,
        "mathjaxUrl": "",
        "binderOptions": {
            "binderUrl": address.rstrip("/"),
            "repoProvider": "git",
            "repo": repository,
            "ref": "HEAD",
        },
        "kernelOptions": {"name": "python3", "kernelName": "python3"},
        "savedSessionOptions": {"enabled": True, "maxAge": 86400, "storagePrefix": "thebe-binder"},
    }
