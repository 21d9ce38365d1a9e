"""Why a user's server does not start: the hub's spawner over KubeSpawner, without a hub, on a real cluster."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.hub.real_hub import SPAWNER, install

from .building import IMAGE

pytestmark = pytest.mark.real("cluster")

HUB = Path(__file__).parents[1] / "hub"
OPTIONS = {"image": IMAGE, "token": "token-of-a-launch-4721", "repo_url": "https://host.example/some/course"}


def case(namespace: str, script: str, **more: Any) -> dict[str, Any]:
    settings = {"namespace": namespace, "port": 9, "cmd": ["sh", "-c", script], "start_timeout": 60, **more}
    return {"class": "kube", "options": OPTIONS, "config": {"KubeSpawner": settings}}


async def test_server_that_does_not_start_shows_why(tmp_path: Path, namespace: str, kubeconfig: Path) -> None:
    installed = install("6", Path(os.environ.get("RINGBINDER_TEST_HUBS") or tmp_path / "hubs"))
    for file in (SPAWNER, HUB / "spawners.py", HUB / "light_server.py"):
        shutil.copy(file, tmp_path)
    filling = "echo loading; x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    cases = {
        "ends": case(namespace, "echo starting; echo No module named jupyter token-of-a-launch-4721; exit 3"),
        "hungry": case(namespace, filling, mem_limit="32M"),
        "no program": case(namespace, "", cmd=["no-such-program"]),
    }
    process = await asyncio.create_subprocess_exec(
        installed.bin / "python", tmp_path / "spawners.py", tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(300):
        reason, trouble = await process.communicate(json.dumps(cases).encode())
    assert process.returncode == 0, trouble.decode()
    outcomes = json.loads(reason)
    assert {outcome["refused"] for outcome in outcomes.values()} == {422}
    assert outcomes["ends"]["why"] == (
        "The server ended with exit code 3 before it answered\nstarting\nNo module named jupyter ***"
    )
    assert "needed more memory than it may have (exit code 137, OOMKilled)" in outcomes["hungry"]["why"]
    assert "no-such-program" in outcomes["no program"]["why"]
