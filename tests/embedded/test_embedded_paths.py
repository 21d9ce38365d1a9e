"""What a link can open in the shared server, and a repository that has modules of the standard library's names."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from realparts.browser import chromium
from realparts.opened import FILES, PAGES, shown
from ringbinder.launches.links import path_to_open
from ringbinder.model import Server
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.kernel import api, open_kernel
from ringbinder_embedded.launcher import LocalLauncher

from .conftest import PLAN, Embedded, request
from .test_embedded_base import PATIENCE

pytestmark = pytest.mark.real("uv", "jupyterlab")

# Not what Python itself imports for `-m`, such as re or types: that ends kernels on mybinder.org, too.
SHADOWS = [
    *(f"{name}.py" for name in ("calendar", "queue", "random", "secrets", "sitecustomize")),
    *(f"{name}/__init__.py" for name in ("email", "jupyter_server", "jupyterlab", "logging")),
]
SANDBOXES = ["off", pytest.param("required", marks=pytest.mark.real("bwrap"))]


@pytest.fixture
async def server(embedded: Embedded, launcher: LocalLauncher) -> Server:
    image = await embedded.build(embedded.plan(FILES))
    return await launcher.launch(image, request(), PLAN, embedded.log)


@pytest.mark.parametrize("sandbox", SANDBOXES)
async def test_every_path_of_a_link_opens_its_page(server: Server) -> None:
    for path, page in PAGES.items():
        assert page in await shown(server.url, server.token.reveal(), path), path


async def test_tree_of_a_plain_file_opens_it_in_jupyterlab(server: Server) -> None:
    token = server.token.reveal()
    path = path_to_open("filepath=folder/data.txt")
    assert path == "tree/folder/data.txt"
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        # As from a launch page: another origin, whose address comes along.
        await page.goto(f"{server.url}{path}?token={token}", referer="http://127.0.0.1:9/")
        await page.wait_for_url("**/lab/tree/folder/data.txt*")
        await page.locator(".jp-FileEditor").get_by_text("some data").wait_for()
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}{path}", allow_redirects=False) as answer,
    ):
        assert "lab" not in answer.headers.get("Location", ""), "only for who has the token"


@pytest.mark.real("git")
@pytest.mark.parametrize("sandbox", SANDBOXES)
async def test_git_pull_clones_into_the_notebook(server: Server, git_server: GitServer) -> None:
    git_server.repository("material").commit({"lesson.txt": "one\n"})
    async with api(server) as client:
        where = {"repo": git_server.url("material"), "targetpath": "material"}
        async with client.get("/git-pull/api", params=where) as answer:
            progress = await answer.text()
        assert '"phase": "finished"' in progress, progress
        async with client.get("/api/contents/material/lesson.txt") as answer:
            assert (await answer.json())["content"] == "one\n"


@pytest.mark.real("git")
async def test_git_pull_clones_nowhere_but_below_the_notebooks_folder(
    server: Server, git_server: GitServer, tmp_path: Path
) -> None:
    """With its parameter `backup` it would put a repository in the place of any folder of this account."""
    git_server.repository("material").commit({"authorized_keys": "a stranger's"})
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "own").touch()
    http = git_server.url("material")
    async with api(server) as client:
        for repo, target in (
            (http, str(keys)), (http, "../home/x"), (http, "."), (http, ".git/hooks"), (f"{http}/..", None),
            (f"file://{tmp_path}", "x"), ("ext::sh -c id", "x"), ("git@git.example.org:u/r", "x"),
        ):  # fmt: skip
            where = {"repo": repo, "backup": "true"} | ({"targetpath": target} if target else {})
            async with client.get("/git-pull/api", params=where) as answer:
                assert answer.status == 403, (repo, target)
    assert [file.name for file in tmp_path.glob("keys*/*")] == ["own"]


@pytest.mark.real("git")
async def test_git_pull_of_another_site_is_refused(server: Server, git_server: GitServer) -> None:
    """The cookie comes along when a page leads the browser to the notebook's port."""
    git_server.repository("material").commit({"lesson.txt": "one\n"})
    where = {"repo": git_server.url("material"), "targetpath": "material"}
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(server.url, cookie_jar=jar) as client:
        async with client.get("lab", params={"token": server.token.reveal()}) as answer:
            assert answer.status == 200
        for site, status in (("cross-site", 403), ("same-site", 403), ("none", 403), ("same-origin", 200)):
            async with client.get("git-pull/api", params=where, headers={"Sec-Fetch-Site": site}) as answer:
                assert answer.status == status, site
        async with client.get("git-pull", params=where, headers={"Sec-Fetch-Site": "cross-site"}) as answer:
            assert answer.status == 403


async def test_shadowed_modules_are_the_kernels_alone(embedded: Embedded, launcher: LocalLauncher) -> None:
    ends = 'raise SystemExit("imported from the repository")\n'
    files = dict.fromkeys([*SHADOWS, "lib/jupyterlab/__init__.py"], ends) | {
        "lesson.py": "import helper\n",
        "lib/helper.py": "answer = 42\n",
        "start": '#!/bin/bash\nexport PYTHONPATH="$PWD/lib"\nexec "$@"\n',
    }
    image = await embedded.build(embedded.plan(files))
    server = await launcher.launch(image, request(), PLAN, embedded.log)
    assert "JupyterLab" in await shown(server.url, server.token.reveal(), "lab")
    kernel = await open_kernel(server)
    assert await kernel.run("import lesson; print(lesson.helper.answer)") == "42\n"
    await kernel.close()


async def test_a_server_of_the_image_opens_the_same_paths(embedded: Embedded, launcher: LocalLauncher) -> None:
    """JupyterLab of the repository's own, beside its modules. git-pull is there if it asks for nbgitpuller."""
    files = dict.fromkeys(SHADOWS, "1 / 0\n") | FILES
    image = await embedded.build(embedded.plan(files | {"requirements.txt": "jupyterlab>=4.4\n"}))
    server = await launcher.launch(image, request(), PLAN, embedded.log)
    for path, page in PAGES.items():
        if not path.startswith("git-pull"):
            assert page in await shown(server.url, server.token.reveal(), path), path


@pytest.mark.parametrize("jupyterlab", ["2.3.2", "3.2.9", "3.6.8"])
async def test_an_old_server_of_the_image_opens_its_pages(
    embedded: Embedded, launcher: LocalLauncher, jupyterlab: str
) -> None:
    """Served by the classic notebook that it brings; JupyterLab 2 has no server that we start, but the shared one."""
    image = await embedded.build(embedded.plan(FILES | {"requirements.txt": f"jupyterlab=={jupyterlab}\n"}))
    server = await launcher.launch(image, request(), PLAN, embedded.log)
    for path in ("lab/tree/folder/first.ipynb", "tree/folder", "notebooks/folder/first.ipynb", "terminals/1"):
        assert "upyter" in await shown(server.url, server.token.reveal(), path), path


@pytest.mark.real("chromium")
@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_jupyterlab_follows_the_colours_of_its_visitor(server: Server, scheme: str) -> None:
    async with chromium() as browser:
        page = await browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]  # a Literal
        await page.goto(f"{server.url}lab?token={server.token.reveal()}")
        await page.wait_for_selector(
            f"body[data-jp-theme-light={str(scheme == 'light').lower()}]", state="attached", timeout=90_000
        )
