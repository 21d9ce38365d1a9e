"""The folder of a docker build: no link of the repository, which lies in it, finds the build's credentials."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ringbinder import process
from ringbinder.secret import Secret
from ringbinder_builders._workplace import workplace

PASSWORD = "canary-7f3a9c"
LOGIN = Secret(f'{{"registry": "registry.example", "username": "<token>", "password": "{PASSWORD}"}}')


@pytest.mark.parametrize("target", ["docker/config.json", "git-credentials", "home/.gitconfig", "lock"])
async def test_link_of_a_repository_to_credentials_finds_none(tmp_path: Path, target: str) -> None:
    """The real repo2docker quotes what it finds in apt.txt."""
    async with workplace(tmp_path / "builds") as place:
        place.keep_git_credentials("https://git.example/x", Secret(f"password={PASSWORD}"))
        place.keep_docker_config({}, LOGIN)
        env = process.minimal_env() | place.environment()
        repository = Path(env["TMPDIR"]) / "repo2docker"
        repository.mkdir()
        (repository / "apt.txt").symlink_to(f"../../{target}")
        program = "from repo2docker.buildpacks import PythonBuildPack as P; print(P('x').get_preassemble_scripts())"
        done = await process.run(
            [sys.executable, "-c", f"import os; os.chdir({str(repository)!r}); {program}"],
            cwd=place.folder, env=env, timeout=60,
        )  # fmt: skip
        assert PASSWORD not in done.output + done.errors
        assert (Path(env["DOCKER_CONFIG"]) / "config.json").read_text().count(PASSWORD) == 1


async def test_credentials_lie_under_a_name_that_differs(tmp_path: Path) -> None:
    places: set[str] = set()
    for _ in range(2):
        async with workplace(tmp_path / "builds") as place:
            place.keep_git_credentials("https://git.example/x", Secret("password=x"))
            place.keep_docker_config({}, None)
            for path in place.folder.rglob("*"):
                if path.is_file() and path.name != "lock":
                    assert path.stat().st_mode & 0o077 == 0
                    places.add(os.path.relpath(path, place.folder).split("/")[0])
    assert len(places) == 2
    assert all(len(name) == 32 for name in places)
