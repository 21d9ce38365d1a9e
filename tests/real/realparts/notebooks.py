"""A notebook of one cell, and running it in JupyterLab as a person does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Page


def notebook(source: str) -> str:
    cell: dict[str, Any] = {
        "id": "only", "cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source,
    }  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]})


async def run_first_cell(page: Page, answer: str) -> None:
    """Runs the first cell of the open notebook; it must put out `answer`."""
    from playwright.async_api import expect

    cell = page.locator(".jp-CodeCell .cm-content").first
    output = page.locator(".jp-OutputArea-output").first
    for attempt in range(12):  # JupyterLab drops a cell that is run before its kernel is connected
        await cell.click()
        await page.keyboard.press("Shift+Enter")
        try:
            await expect(output).to_have_text(answer, timeout=10_000)
            break
        except AssertionError:
            if attempt == 11:
                raise
