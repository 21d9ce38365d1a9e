"""What repo2docker's base environment has for kernels is there, beside whatever a repository asks for."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page, expect
from realparts.browser import chromium
from ringbinder.testing.kernel import api, open_kernel
from ringbinder_embedded.installed import site_packages

from .conftest import PLAN, Embedded, entry_of, in_env, request

pytestmark = [pytest.mark.real("uv", "jupyterlab"), pytest.mark.timeout(600)]

PATIENCE = 120_000
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SLIDER = "import ipywidgets\nslider = ipywidgets.IntSlider(value=40, max=50, description='Depth')\nslider\n"
EXECUTE = """
import nbformat
from nbconvert.preprocessors import ExecutePreprocessor
notebook = nbformat.read("{name}", 4)
ExecutePreprocessor(kernel_name="python3").preprocess(notebook, {{"metadata": {{"path": "."}}}})
nbformat.write(notebook, "{name}")
"""


def notebook(*cells: str) -> dict[str, object]:
    code: list[dict[str, object]] = [
        {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": cell} for cell in cells
    ]
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": KERNEL, "cells": code}


def versions(*packages: str) -> str:
    """Code that prints the versions of `packages`."""
    return f"import importlib.metadata as m; print(*map(m.version, {packages}))"


async def test_a_bot_executes_a_notebook_with_a_widget(embedded: Embedded) -> None:
    """As binderbot does it: the notebook goes up, a kernel executes it with nbconvert, and it comes back."""
    image = await embedded.build(embedded.plan({"requirements.txt": "iniconfig==1.1.1\n"}))
    assert "Added, as repo2docker does: ipywidgets>=8,<9, nbconvert, nbformat" in embedded.log.text
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        content = {"type": "notebook", "content": notebook(SLIDER)}
        async with api(server) as client:
            async with client.put("api/contents/slider.ipynb", json=content) as answer:
                assert answer.status == 201
            kernel = await open_kernel(server)
            assert "Error" not in await kernel.run(EXECUTE.format(name="slider.ipynb"))
            await kernel.close()
            async with client.get("api/contents/slider.ipynb") as answer:
                [cell] = (await answer.json())["content"]["cells"]
    [output] = cell["outputs"]
    assert "application/vnd.jupyter.widget-view+json" in output["data"], output


async def test_versions_that_a_repository_asks_for_are_kept(embedded: Embedded) -> None:
    """Older than what the base would take, named or only needed, from the index or from the repository."""
    files = {
        "requirements.txt": "nbformat==5.7.0\nattrs==21.4.0\n./jinja2\n",
        "jinja2/pyproject.toml": '[project]\nname = "Jinja2"\nversion = "3.0.99"\ndependencies = ["MarkupSafe<2.1"]\n'
        '[tool.setuptools]\npy-modules = ["jinja2"]\n',
        "jinja2/jinja2.py": "",
    }
    image = await embedded.build(embedded.plan(files))
    assert in_env(image, versions("nbformat", "attrs", "jinja2")) == "5.7.0 21.4.0 3.0.99"
    assert in_env(image, versions("markupsafe")).startswith("2.0.")
    assert "Added, as repo2docker does: ipywidgets>=8,<9, nbconvert" in embedded.log.text


async def test_an_image_with_all_of_the_base_stays_as_it_is(embedded: Embedded) -> None:
    """ipywidgets 7 needs the classic notebook, which brings the rest."""
    image = await embedded.build(embedded.plan({"requirements.txt": "ipywidgets==7.8.5\n"}))
    assert in_env(image, versions("ipywidgets")) == "7.8.5"
    assert in_env(image, "import nbconvert, nbformat") == ""
    assert "repo2docker" not in embedded.log.text


async def test_a_base_that_does_not_fit_is_left_out(embedded: Embedded) -> None:
    """Only what does not fit; why it failed is not taken for the reason of a later failure."""
    plan = embedded.plan({"requirements.txt": "jupyterlab-widgets==1.1.11\n"})
    image = await embedded.build(plan)
    assert in_env(image, versions("jupyterlab-widgets")) == "1.1.11"
    assert in_env(image, "import nbconvert, importlib.util as u; print(u.find_spec('ipywidgets'))") == "None"
    assert "Left out: ipywidgets>=8,<9, which repo2docker adds: not to be had" in embedded.log.text
    assert "unsatisfiable" not in embedded.log.text


async def test_a_base_that_takes_too_long_is_left_out(apart: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder_embedded.installer._BASE_SECONDS", 0.0)
    image = await apart.build(apart.plan({"requirements.txt": "six==1.16.0\n"}))
    assert in_env(image, "import six, importlib.util as u; print(u.find_spec('nbformat'))") == "None"
    assert "Left out: ipywidgets>=8,<9, nbconvert, nbformat" in apart.log.text


async def test_the_base_takes_little_of_the_disk(apart: Embedded) -> None:
    """Its files are links to those of uv's cache."""
    first = await apart.build(apart.plan({"requirements.txt": "six==1.16.0\n"}))
    packages = entry_of(first).env.place / site_packages(entry_of(first).env)[0]
    own = [
        path
        for name in ("ipywidgets", "nbconvert", "nbformat", "widgetsnbextension")
        for path in (packages / name).rglob("*")
        if path.is_file() and path.stat().st_nlink == 1 and path.suffix != ".pyc"
    ]
    assert own == []


async def shown(page: Page, url: str) -> None:
    await page.goto(url)
    await page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    await page.locator(".jp-StatusBar-Left").get_by_text("| Idle").wait_for()  # else nothing is run
    await page.locator(".jp-Notebook .jp-Cell").first.click()
    await page.keyboard.press("Shift+Enter")
    widget = page.locator(".jp-OutputArea .widget-slider")
    await expect(widget.locator(".widget-readout")).to_have_text("40")
    await expect(widget.locator(".widget-label")).to_have_text("Depth")


@pytest.mark.real("chromium")
async def test_a_widget_is_shown_and_heeded(embedded: Embedded) -> None:
    """In the shared JupyterLab, which has none of it itself: moved on the page, it has another value in the kernel."""
    files = {"slider.ipynb": json.dumps(notebook(SLIDER, "print('depth', slider.value)"))}
    image = await embedded.build(embedded.plan(files))
    launcher = embedded.launcher()
    async with launcher.lifespan(), chromium() as browser:
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        page = await browser.new_page(viewport={"width": 1200, "height": 700})
        page.set_default_timeout(PATIENCE)
        await shown(page, f"{server.url}lab/tree/slider.ipynb?token={server.token.reveal()}")
        await page.locator(".widget-slider .noUi-handle").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.locator(".widget-readout")).to_have_text("41")
        await page.locator(".jp-Notebook .jp-Cell").nth(1).click()
        await page.keyboard.press("Shift+Enter")
        await expect(page.locator(".jp-OutputArea-output").get_by_text("depth 41")).to_be_visible()
