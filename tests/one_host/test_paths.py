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


async def test_every_path_of_a_link_opens_its_page(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("paths").commit({"Dockerfile": dockerfile(), **FILES})
    ready = (await binder.launch(link(git_server, "paths")))[-1]
    assert ready["phase"] == "ready", ready
    for path, page in PAGES.items():
        assert page in await shown(ready["url"], ready["token"], path), path
