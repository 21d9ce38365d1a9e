"""An image of a repository, made by one of the builders, and what tests ask of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder.testing.gitserver import Repository

Docker = Callable[..., str]
Files = Mapping[str, str | bytes]
TOKEN: Final = "contract-token-4417"
BASE_URL: Final = "/user/somebody/"
_INSIDE: Final = Path(__file__).with_name("inside")


def fill(repository: Repository, files: Files) -> str:
    """Commits `files` and a link on top of a tagged commit; returns the last one's id."""
    repository.commit({"README.md": "first\n"}, "Begin")
    repository.tag("v1.0", annotated=True)
    (repository.folder / "link").symlink_to("data/empty")
    ref = repository.commit(files)
    if "start" in files:
        # repo2docker's images run it all the same.
        repository.git("update-index", "--chmod=-x", "start")
        repository.git("commit", "--quiet", "-m", "Change")
        ref = repository.git("rev-parse", "HEAD")
    return ref


@frozen
class BuiltImage:
    """An image of `fill`'s repository, in the engine that `docker` speaks to."""

    builder: str
    name: str
    url: str
    """The repository's."""
    ref: str
    docker: Docker

    @property
    def config(self) -> dict[str, Any]:
        (image,) = json.loads(self.docker("image", "inspect", self.name))
        return dict(image["Config"])

    def run(self, script: str, *, login: bool = False) -> str:
        """What `script` prints, run by bash as the image's command."""
        shell = ["bash", "-l"] if login else ["bash"]
        return self.docker("run", "--rm", "--network=host", self.name, *shell, "-ec", script)

    def serve(
        self, command: Sequence[str], env: Mapping[str, str], kernels: Mapping[str, str], *, hub: bool
    ) -> dict[str, Any]:
        """What the Jupyter that `command` starts answers, and what the code of `kernels` prints in them.

        Without a command the image's own; with `hub` there is one. In a network of its own every port is free.
        """
        variables = [f"--env={name}={value}" for name, value in env.items()]
        container = self.docker(
            "run", "--detach", "--network=none", f"--volume={_INSIDE}:/inside:ro", *variables, self.name, *command
        ).strip()
        try:
            if hub:
                self.docker("exec", "--detach", container, "python", "/inside/hub.py", TOKEN)
            try:
                return dict(json.loads(self.docker(
                    "exec", container, "python", "/inside/ask.py", env.get("JUPYTERHUB_SERVICE_PREFIX", "/"), TOKEN,
                    *(f"{name}={code}" for name, code in kernels.items()),
                )))  # fmt: skip
            except AssertionError as error:
                error.add_note(self.docker("logs", container))
                raise
        finally:
            self.docker("rm", "--force", container)


def spawner_arguments() -> list[str]:
    """What Ringbinder's and BinderHub's mixins add to a spawner's command, for both generations of Jupyter."""
    given = {"ip": "127.0.0.1", "port": 8888, "base_url": BASE_URL, "trust_xheaders": True, "allow_remote_access": True}
    return [f"--{section}.{name}={value}" for section in ("NotebookApp", "ServerApp") for name, value in given.items()]


def spawner_variables() -> dict[str, str]:
    """What a hub's spawner sets, as far as Jupyter reads it."""
    return {
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JPY_API_TOKEN": TOKEN,
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-somebody",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{BASE_URL}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=somebody/"]',
        "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!server=somebody/"]',
        "JUPYTERHUB_USER": "somebody",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": BASE_URL,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:8888{BASE_URL}",
        "JUPYTERHUB_ACTIVITY_URL": "http://127.0.0.1:8081/hub/api/users/somebody/activity",
    }


def ringbinder_shim() -> str:
    """The program by which Ringbinder's mixin for spawners starts Jupyter; its module needs a hub to be imported."""
    source = Path(__file__).parents[2] / "plugins" / "launchers" / "ringbinder_launchers" / "spawner.py"
    (shim,) = re.findall(r'^_JUPYTER = """\n(.*?)"""', source.read_text(), re.DOTALL | re.MULTILINE)
    return str(shim)


BINDERHUB_SHIM: Final = """
import os, sys
try:
    import jupyterlab, jupyterlab.labapp
    lab = int(jupyterlab.__version__.split(".")[0]) >= 3
except Exception:
    lab = False
os.execvp("jupyter-lab" if lab else "jupyter-notebook", sys.argv)
"""
"""Does what the program does that BinderHub's chart gives its hub as `singleuser.cmd`."""
