"""Packages that a requirements file names by a repository of git."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringbinder.testing.gitserver import GitServer

from .conftest import Embedded, in_env


def package(name: str, extra: str = "") -> dict[str, str]:
    """Files of a package whose version is of the last tag, or of the tag and the commits since."""
    project = (
        '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\ndynamic = ["version"]\n{extra}'
        f'[tool.setuptools]\npy-modules = ["{name}"]\n[tool.setuptools_scm]\nsearch_parent_directories = true\n'
    )
    return {"pyproject.toml": project, f"{name}.py": "ANSWER = 42\n"}


@pytest.mark.slow
@pytest.mark.real("uv")
async def test_packages_of_a_git_server_as_pip_freeze_names_them(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By commit, tag and branch, over HTTP and ssh, in an included file and a constraint, with the right versions."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    # A stand-in for the program: git on this machine, whatever the host.
    ssh.write_text('#!/bin/sh\nwhile [ "$#" -gt 1 ]; do shift; done\nexec sh -c "$1"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    async with GitServer.running(tmp_path / "git") as server:
        repository = server.repository("group/several")
        extra = '[project.optional-dependencies]\nmore = ["idna"]\n'
        below = {f"below/{name}": text for name, text in package("ringbinder_below").items()}
        commit = repository.commit(package("ringbinder_top", extra) | below)
        repository.tag("v1.4.2")
        repository.commit({"README": "later"})
        url = f"git+{server.url('group/several.git')}"
        by_ssh = f"git+ssh://git@git.example{repository.folder}"
        files = {
            "binder/requirements.txt": "-c pins.txt\n-r more.txt\nringbinder_below\n",
            "binder/more.txt": f"--editable={url}@{commit}#egg=ringbinder_top[more]\n",
            "binder/pins.txt": f"-e {by_ssh}@main#egg=ringbinder_below&subdirectory=below\n",
        }
        image = await embedded.build(embedded.plan(files))
    code = "import importlib.metadata as m; print(m.version('ringbinder_top'), m.version('ringbinder_below'))"
    top, below_version = in_env(image, code).split()
    assert top == "1.4.2"
    assert below_version.startswith("1.4.3.dev1+g")
    assert in_env(image, "import ringbinder_top, ringbinder_below as b, idna; print(b.ANSWER)") == "42"
    assert "more.txt (line 1): installed from git, but not as editable" in embedded.log.text
