"""A build through Ringbinder beside the same build by hand, as a ratio of wall time within one run.

    python benchmarks/stages/build.py --base IMAGE --registry HOST:PORT [--engine ADDRESS] [--rounds 5] [--json FILE]

ours     provider `git`, builder `docker` and registry `oci`, from the request to the `ready` of a build-only launch
by hand  `jupyter-repo2docker` with the same arguments and settings, then `docker push`

Both build the same kind of repository (a Dockerfile on IMAGE that installs packages with pip and adds a layer of 20 MB
that no build has seen before) and push it to the registry at HOST:PORT, which is asked without a password. Rounds
alternate, and who is first changes each round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from attrs import frozen
from ringbinder.app import Ringbinder, running
from ringbinder.config import load
from ringbinder.model import LaunchRequest
from ringbinder.testing.gitserver import GitServer
from ringbinder_server.logging import set_up


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

    @staticmethod
    async def ours(app: Ringbinder, url: str, ref: str) -> float:
        started = time.perf_counter()
        session = app.launch(LaunchRequest("git", f"{quote(url, safe='')}/{ref}", build_only=True))
        async for batch in session.read():
            for _, event in batch:
                end = event
        if end.phase != "ready":
            raise SystemExit(f"the build failed: {end.message}")
        return time.perf_counter() - started


async def measure(parts: Parts, rounds: int) -> list[tuple[float, float]]:
    figures: list[tuple[float, float]] = []
    async with (
        GitServer.running(parts.folder / "git") as server,
        running(load(environ={}, sets=parts.sets()), set_up("error")) as app,
    ):
        for number in range(rounds + 1):
            both: dict[str, float] = {}
            for side in ("ours", "hand") if number % 2 else ("hand", "ours"):
                url, ref = await asyncio.to_thread(parts.repository, server)
                if side == "ours":
                    both[side] = await parts.ours(app, url, ref)
                else:
                    both[side] = await asyncio.to_thread(parts.by_hand, url, ref)
            if number:  # the first warms everything up
                figures.append((both["ours"], both["hand"]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="unix:///var/run/docker.sock")
    parser.add_argument("--registry", required=True)
    parser.add_argument("--base", required=True, help="image with python3 and pip")
    parser.add_argument("--repo2docker", default="jupyter-repo2docker")
    parser.add_argument("--repo2docker-config", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures of every round here")
    given = parser.parse_args()
    config = given.repo2docker_config.absolute() if given.repo2docker_config else None
    with tempfile.TemporaryDirectory(prefix="ringbinder-bench-") as folder:
        parts = Parts(given.engine, given.registry, given.base, given.repo2docker, config, Path(folder))
        figures = asyncio.run(measure(parts, given.rounds))
    for ours, hand in figures:
        print(f"ours {ours:7.2f} s   by hand {hand:7.2f} s   ratio {ours / hand:.3f}")
    ratio = statistics.median(ours / hand for ours, hand in figures)
    print(f"median ratio {ratio:.3f} over {len(figures)} rounds (bound: 1.05)")
    if given.json:
        given.json.write_text(json.dumps({"rounds": figures, "median_ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
