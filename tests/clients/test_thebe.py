"""thebe and thebe-core in Chromium, on a page of another origin, with real notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from realparts.parts import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.clients.conftest import Binder

pytestmark = [
    pytest.mark.real("npm", "git", "uv", "jupyterlab", "chromium"),
    pytest.mark.timeout(600),
]
PATIENCE = 300_000
CODE = "from answer import ANSWER; print('the answer is', ANSWER)"


@pytest.fixture
def page() -> Iterator[Page]:
    import shutil

    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def options(binder: Binder) -> dict[str, Any]:
    return {
        "useBinder": True,
        "requestKernel": True,
        "mathjaxUrl": "",
        "binderOptions": {
            "binderUrl": binder.address.rstrip("/"),
            "repoProvider": "git",
            "repo": binder.repository,
            "ref": "HEAD",
        },
        "kernelOptions": {"name": "python3", "kernelName": "python3"},
        "savedSessionOptions": {"enabled": True, "maxAge": 86400, "storagePrefix": "thebe-binder"},
    }


def launches(binder: Binder) -> float:
    text = httpx.get(f"{binder.address}metrics", trust_env=False).text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("binderhub_launch_count_total{") and 'status="success"' in line
    )


CORE = """
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


def test_thebe_core_runs_a_cell_and_comes_back_without_a_second_launch(
    embedded: Binder, pages: tuple[str, Path], page: Page
) -> None:
    site, folder = pages
    (folder / "core.html").write_text(
        '<!doctype html><meta charset="utf-8"><script src="thebe-core/dist/lib/thebe-core.min.js"></script>'
    )
    given = {"options": options(embedded), "code": CODE}
    before = launches(embedded)
    page.goto(f"{site}/core.html")
    page.wait_for_function("window.thebeCore && window.thebeCore.api")
    first = page.evaluate(CORE, given)
    assert "the answer is 42" in first["outputs"], first
    assert launches(embedded) == before + 1
    page.reload()
    page.wait_for_function("window.thebeCore && window.thebeCore.api")
    assert "the answer is 42" in page.evaluate(CORE, given)["outputs"]
    assert launches(embedded) == before + 1, "it knew the server of before"


def test_thebe_runs_the_cells_of_a_page(embedded: Binder, pages: tuple[str, Path], page: Page) -> None:
    site, folder = pages
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="thebe/lib/thebe.css">'
        f'<script type="text/x-thebe-config">{json.dumps(options(embedded))}</script>'
        '<script src="thebe/lib/index.js"></script>'
        f'<pre data-executable="true" data-language="python">{CODE}</pre>'
    )
    page.goto(f"{site}/page.html")
    # It looks for this one in its argument only.
    page.evaluate("() => { window.bootstrapped = window.thebe.bootstrap({ requestKernel: true }); }")
    page.evaluate("() => window.bootstrapped.then(() => true)")
    page.click(".thebe-run-button")
    page.wait_for_function("document.body.innerText.includes('the answer is 42')")
