"""What a link can open on the one host: the rows of the embedded mode's test, in a container."""

from __future__ import annotations

import pytest
from realparts.opened import FILES, PAGES, shown
from ringbinder.testing.gitserver import GitServer

from .stack import OneHost, dockerfile, link

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "npm", "git", "jupyterlab"),
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize("builder", ["docker", "layers"])
async def test_every_path_of_a_link_opens_its_page(binder: OneHost, git_server: GitServer, builder: str) -> None:
    own = {"Dockerfile": dockerfile()} if builder == "docker" else {"requirements.txt": "six==1.17.0\n"}
    name = f"paths-{builder}"
    git_server.repository(name).commit({**own, **FILES})
    ready = (await binder.launch(link(git_server, name)))[-1]
    assert ready["phase"] == "ready", ready
    for path, page in PAGES.items():
        assert page in await shown(ready["url"], ready["token"], path), path
