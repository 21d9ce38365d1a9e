"""thebe and thebe-core in Chromium, on a page of another origin, with real notebooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest
from realparts.browser import chromium
from realparts.npm import Pages
from realparts.thebe import run_with_thebe, run_with_thebe_core

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.clients.conftest import Binder

pytestmark = [
    pytest.mark.real("npm", "git", "uv", "jupyterlab", "chromium"),
    pytest.mark.timeout(600),
]
PATIENCE = 300_000
CODE = "from answer import ANSWER; print('the answer is', ANSWER)"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page


def launches(binder: Binder) -> float:
    text = httpx.get(f"{binder.address}metrics", trust_env=False).text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("binderhub_launch_count_total{") and 'status="success"' in line
    )


async def test_thebe_core_runs_a_cell_and_returns_without_a_launch(embedded: Binder, pages: Pages, page: Page) -> None:
    before = launches(embedded)
    for time in ("first", "again"):
        put_out = await run_with_thebe_core(page, pages, embedded.address, embedded.repository, CODE)
        assert "the answer is 42" in put_out, time
        assert launches(embedded) == before + 1, "the second time, it knew the server of before"


async def test_thebe_runs_the_cells_of_a_page(embedded: Binder, pages: Pages, page: Page) -> None:
    await run_with_thebe(page, pages, embedded.address, embedded.repository, CODE)
    await page.wait_for_function("document.body.innerText.includes('the answer is 42')")
