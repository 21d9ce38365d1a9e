"""Configuration file for repo2docker, run in its own Python: its files must lie in the repository.

repo2docker reads what a link such as ``apt.txt -> /etc/shadow`` leads to, and shows lines of it. The variable
RINGBINDER_REPO2DOCKER_CONFIG names the operator's own configuration file, if there is one.
"""

# ruff: noqa: F821 - traitlets gives `get_config` and `load_subconfig`
# mypy: disable-error-code="name-defined,no-any-return"

import os
from pathlib import Path
from typing import Any

from repo2docker.app import Repo2Docker  # type: ignore[import-untyped]  # it has no types
from traitlets.config.loader import JSONFileConfigLoader

_FOLDERS = ("", "binder", ".binder")
_READ = (
    "", "Dockerfile", "DESCRIPTION", "JuliaProject.toml", "Manifest.toml", "Pipfile", "Pipfile.lock", "Project.toml",
    "REQUIRE", "apt.txt", "default.nix", "environment.yaml", "environment.yml", "install.R", "postBuild",
    "pyproject.toml", "requirements.txt", "requirements3.txt", "runtime.txt", "setup.cfg", "setup.py", "start",
)  # fmt: skip
_fetch = Repo2Docker.fetch


def _refuse_links(checkout: str, subdir: str) -> None:
    """Raises ValueError for a file that repo2docker reads, if a link leads out of `checkout` to it."""
    root = Path(checkout).resolve()
    for file in (Path(subdir, folder, name) for folder in _FOLDERS for name in _READ):
        if not (root / file).resolve().is_relative_to(root):
            raise ValueError(f"{file} leads out of the repository through a link; put the file itself there")


def _checked_fetch(self: Any, url: str, ref: str, checkout_path: str) -> None:
    _fetch(self, url, ref, checkout_path)
    _refuse_links(checkout_path, self.subdir)


Repo2Docker.fetch = _checked_fetch

c = get_config()
if _own := os.environ.get("RINGBINDER_REPO2DOCKER_CONFIG"):
    _folder, _name = os.path.split(_own)
    if _name.endswith(".json"):
        c.merge(JSONFileConfigLoader(_name, path=_folder).load_config())
    else:
        load_subconfig(_name, path=_folder)
