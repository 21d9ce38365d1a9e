"""What `ringbinder doctor` finds out about building with a container engine on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from ringbinder import Finding, PluginError, TransientError, process

from ._docker_engine import DockerEngine

_SECONDS: Final = 60.0
_NEEDS_BUILDX: Final = 2025
"""The first year of whose repo2dockers some need buildx (2025.8)."""


async def version(repo2docker: Sequence[str], env: Mapping[str, str]) -> str:
    """What repo2docker says that its version is; empty if it says nothing."""
    return await _first_line([*repo2docker, "--version"], env)


async def examine(engine: DockerEngine, repo2docker: Sequence[str], env: Mapping[str, str]) -> Sequence[Finding]:
    """Does the engine answer, is repo2docker there, and what that needs; `env` is a build's."""
    findings: list[Finding] = []
    try:
        release = (await engine.info()).get("ServerVersion", "")
        findings.append(Finding("ok", f"the container engine at {engine.address} answers (version {release})"))
    except (TransientError, PluginError) as error:
        why, _, advice = str(error).partition("): ")
        findings.append(Finding("error", f"{why})" if advice else why, advice))

    response = await version(repo2docker, env)
    year = response.partition(".")[0]
    if not year.isdecimal():
        reason = f"{repo2docker[0]} does not say its version: {response or 'nothing'}"
        return [*findings, Finding("error", reason, "pip install jupyter-repo2docker")]
    findings.append(Finding("ok", f"repo2docker is version {response}"))
    if not shutil.which("git", path=env.get("PATH")):
        findings.append(Finding("error", "git is not there, with which repositories are fetched", "install git"))
    if int(year) >= _NEEDS_BUILDX:
        findings.append(await _buildx(env))
    return findings


async def _buildx(env: Mapping[str, str]) -> Finding:
    response = await _first_line(["docker", "buildx", "version"], env, succeeded=True)
    if response:
        return Finding("ok", f"docker's buildx plugin is there ({response})")
    return Finding(
        "error",
        "this repo2docker builds with docker's client and its buildx plugin, and `docker buildx version` fails",
        "install docker-buildx-plugin, or repo2docker 2024.7.0, which needs neither",
    )


async def _first_line(argv: Sequence[str], env: Mapping[str, str], *, succeeded: bool = False) -> str:
    """What `argv` prints first; empty if it cannot be started, and, if it has to have `succeeded`, if it fails."""
    try:
        done = await process.run(argv, env=env, timeout=_SECONDS)
    except (OSError, TimeoutError):
        return ""
    if done.returncode and succeeded:
        return ""
    return (done.output or done.errors).strip().partition("\n")[0]
