"""A real Chromium for the tests of the pages; screenshots of every state go to `artifacts/pages/`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Locator, Page

from .browser import PATIENCE

SHOTS: Final = Path(__file__).parents[3] / "artifacts" / "pages"
NOTEBOOK: Final = "<title>A notebook</title>"
LINK: Final = "v2/fake/owner/name/main"
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}


@asynccontextmanager
async def opened(browser: Browser, *, blocks: bool = False, **options: Any) -> AsyncIterator[Page]:
    """A page in a context of its own; an error in its scripts fails the test.

    So does one against its policy, unless it `blocks`.
    """
    context = await browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    if not blocks:
        page.on("console", lambda message: errors.append(message.text) if "Policy" in message.text else None)
    yield page
    await context.close()
    assert [error for error in errors if not error.startswith("Framing")] == []


async def shot(page: Page, name: str) -> None:
    """Keeps a picture. Nothing may be wider than the window, and axe may have nothing to complain of."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@asynccontextmanager
async def web(answer: Callable[[str], str | None]) -> AsyncIterator[tuple[str, list[str]]]:
    """A small web server: its address and the paths asked for; `answer` gives the page, None is a 204."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            if "favicon" not in path:
                asked.append(path)
            page = answer(path)
            status, body = ("204 No Content", b"") if page is None else ("200 OK", page.encode())
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked


@asynccontextmanager
async def breakable(*addresses: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """The server that listens behind a line that can be cut: the address there, and what cuts it.

    With several `addresses` the first one that answers is led to.
    """
    lines: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(writer)
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
        writer.close()
        lines.discard(writer)

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for target in map(urlsplit, addresses):
            with suppress(ConnectionRefusedError):
                far = await asyncio.open_connection(target.hostname, target.port)
                await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
                return
        writer.transport.abort()

    def cut() -> None:
        for line in list(lines):
            line.transport.abort()

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", cut
        cut()


def stage(page: Page, name: str) -> Locator:
    """The line of a stage."""
    return page.locator(f'#stages [data-stage="{name}"]')


async def until(locator: Locator, condition: str) -> None:
    """Waits for a condition on an element (Playwright's own way needs what the pages' policy forbids)."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not await locator.evaluate(condition):
            await asyncio.sleep(0.02)
