"""A build through Ringbinder beside the same build by hand, as a ratio of wall time within one run.

    python -m benchmarks.stages.build --base IMAGE --registry HOST:PORT [--engine ADDRESS] [--rounds 5] [--json FILE]

ours     provider `git`, builder `docker` and registry `oci`, from the request to the `ready` of a build-only launch
by hand  `jupyter-repo2docker` with the same arguments and settings, then `docker push`

Both build the same kind of repository (a Dockerfile on IMAGE that installs packages with pip and adds a layer of 20 MB
that no build has seen before) and push it to the registry at HOST:PORT, which is asked without a password. Rounds
alternate, and who is first changes each round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from attrs import frozen
from ringbinder.app import running
from ringbinder.config.loading import load
from ringbinder.model import LaunchRequest
from ringbinder.testing.gitserver import GitServer
from ringbinder_server.logging import set_up

from benchmarks.stages.turns import Figures, in_turns, parser, tell, until_ready


@frozen
class Parts:
    """What both sides build with."""

    engine: str
    registry: str
    base: str
    repo2docker: str
    config: Path | None
    folder: Path

    def sets(self) -> list[str]:
        given = {
            "Ringbinder.builder": "docker", "Ringbinder.registry": "oci", "Ringbinder.launcher": "fake",
            "Ringbinder.state_folder": self.folder / "state", "Ringbinder.cache_folder": self.folder / "cache",
            "BinderHub.image_prefix": f"{self.registry}/ours-", "LocalRepo2dockerBuild.docker_host": self.engine,
            "LocalRepo2dockerBuild.repo2docker": self.repo2docker,
            **({"LocalRepo2dockerBuild.repo2docker_config": self.config} if self.config else {}),
        }  # fmt: skip
        return [f"{name}={value}" for name, value in given.items()]

    def repository(self, server: GitServer) -> tuple[str, str]:
        """Address and commit of one that nobody has built."""
        nonce = secrets.token_hex(8)
        repository = server.repository(nonce)
        lines = [
            f"FROM {self.base}", f"RUN echo {nonce}",
            "RUN python3 -m pip install --quiet --no-cache-dir numpy pandas requests",
            "RUN dd if=/dev/urandom of=/layer bs=1M count=20",
        ]  # fmt: skip
        return server.url(f"{nonce}.git"), repository.commit({"Dockerfile": "\n".join([*lines, ""])})

    def by_hand(self, url: str, ref: str) -> float:
        image = f"{self.registry}/hand:{ref}"
        env = {**os.environ, "DOCKER_HOST": self.engine}
        command = [self.repo2docker, *(["--config", str(self.config)] if self.config else [])]
        command += [f"--ref={ref}", f"--image={image}", "--no-clean", "--no-run", "--json-logs"]
        command += ["--user-name=jovyan", "--user-id=1000", url]
        started = time.perf_counter()
        subprocess.run(command, env=env, check=True, capture_output=True, cwd=self.folder)
        subprocess.run(["docker", "push", image], env=env, check=True, capture_output=True)
        return time.perf_counter() - started


async def measure(parts: Parts, rounds: int) -> Figures:
    async with (
        GitServer.running(parts.folder / "git") as server,
        running(load(environ={}, sets=parts.sets()), set_up("error")) as app,
    ):

        async def ours() -> float:
            url, ref = await asyncio.to_thread(parts.repository, server)
            seconds, _ = await until_ready(app, LaunchRequest("git", f"{quote(url, safe='')}/{ref}", build_only=True))
            return seconds

        async def hand() -> float:
            url, ref = await asyncio.to_thread(parts.repository, server)
            return await asyncio.to_thread(parts.by_hand, url, ref)

        return await in_turns(rounds, ours, hand)


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--engine", default="unix:///var/run/docker.sock")
    options.add_argument("--registry", required=True)
    options.add_argument("--base", required=True, help="image with python3 and pip")
    options.add_argument("--repo2docker", default="jupyter-repo2docker")
    options.add_argument("--repo2docker-config", type=Path)
    given = options.parse_args()
    config = given.repo2docker_config.absolute() if given.repo2docker_config else None
    with tempfile.TemporaryDirectory(prefix="ringbinder-bench-") as folder:
        parts = Parts(given.engine, given.registry, given.base, given.repo2docker, config, Path(folder))
        tell({"build": asyncio.run(measure(parts, given.rounds))}, 1.05, given.json)


if __name__ == "__main__":
    main()
