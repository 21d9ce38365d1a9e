"""repo2docker, as the docker builder runs it, reads no file outside of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ringbinder import process
from ringbinder_builders import docker

CANARY = "canary-9d41"
# Others ask the network about any address.
OWN = "from repo2docker import contentproviders as cp\nc.Repo2Docker.content_providers = [cp.Local, cp.Git]\n"


async def repo2docker(tmp_path: Path, repository: Path, *options: str) -> process.Completed:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    program = Path(sys.executable).with_name("jupyter-repo2docker")
    env = process.minimal_env() | {"RINGBINDER_REPO2DOCKER_CONFIG": str(own), "HOME": str(tmp_path)}
    return await process.run(
        [str(program), "--config", str(docker._CONFIG), "--no-build", "--json-logs", "--debug", *options,
         f"file://{repository}"],
        cwd=tmp_path, env=env, timeout=120,
    )  # fmt: skip


async def committed(repository: Path) -> None:
    for words in (["init", "-q"], ["add", "-A"],
                  ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):  # fmt: skip
        done = await process.run(["git", *words], cwd=repository, env=process.minimal_env(), timeout=60)
        assert done.returncode == 0, done.errors


@pytest.mark.real("git")
@pytest.mark.parametrize("name", ["apt.txt", "environment.yml", "runtime.txt", "binder/apt.txt", "binder"])
async def test_file_behind_a_link_out_of_it_is_not_read(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for file in ("secret", "apt.txt"):
        (outside / file).write_text(f"{CANARY}!: [\n")
    repository = tmp_path / "repository"
    (repository / name).parent.mkdir(parents=True)
    (repository / name).symlink_to(outside if name == "binder" else outside / "secret")
    await committed(repository)

    done = await repo2docker(tmp_path, repository)

    assert done.returncode != 0
    assert CANARY not in done.output + done.errors
    assert f"{name} leads out of the repository through a link" in done.errors


@pytest.mark.real("git")
async def test_file_in_a_linked_subfolder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "apt.txt").write_text(f"{CANARY}!\n")
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "sub").symlink_to(tmp_path / "outside")
    await committed(repository)

    done = await repo2docker(tmp_path, repository, "--subdir=sub")

    assert done.returncode != 0
    assert CANARY not in done.output + done.errors


@pytest.mark.real("git")
async def test_link_within_the_repository_is_followed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "binder").mkdir(parents=True)
    (repository / "apt.txt").write_text("hello\n")
    (repository / "binder" / "apt.txt").symlink_to("../apt.txt")
    await committed(repository)

    done = await repo2docker(tmp_path, repository)

    assert done.returncode == 0, done.errors
    assert "hello" in done.output + done.errors
