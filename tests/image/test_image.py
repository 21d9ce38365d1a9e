"""What is in Ringbinder's image, and that it works as the chart runs it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

Docker = Callable[..., str]
ROOT = Path(__file__).parents[2]

# As the chart's pods: another user than root, nothing writable but what is mounted, no capabilities.
LIKE_A_POD = (
    "--network=host", "--user=1000:1000", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:mode=1777", "--tmpfs=/var/lib/ringbinder:uid=1000",
    "--env=PYTHONPATH=/opt/plugins",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_it_holds_the_program_and_not_its_source(docker: Docker, ringbinder_image: str, base_image: str) -> None:
    [image] = json.loads(docker("image", "inspect", ringbinder_image))
    assert image["Config"]["User"] == "1000:1000"
    [base] = json.loads(docker("image", "inspect", base_image))
    added = image["Size"] - base["Size"]
    assert added < 400 * 1024**2, f"{added / 1024**2:.0f} MiB on top of the base"
    reported = docker("run", "--rm", *LIKE_A_POD, ringbinder_image, "--version")
    assert version("ringbinder") in reported
    left = docker(
        "run",
        "--rm",
        "--entrypoint=sh",
        ringbinder_image,
        "-c",
        "ls -A /src /root/.cache 2>/dev/null || true",
    )
    assert left == ""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1:1/r", "Failed to connect to 127.0.0.1 port 1"),
        ("ssh://git@127.0.0.1:1/r", "ssh: connect to host 127.0.0.1 port 1: Connection refused"),
        ("git://127.0.0.1:1/r", "errno=Connection refused"),
    ],
)
def test_git_has_what_each_protocol_needs(docker: Docker, ringbinder_image: str, url: str, reason: str) -> None:
    """It comes as far as the connection."""
    command = f"git ls-remote {url} 2>&1 || true"
    output = docker("run", "--rm", *LIKE_A_POD, "--entrypoint=sh", ringbinder_image, "-c", command)
    assert reason in output


@contextmanager
def serving(docker: Docker, image: str, *options: str) -> Iterator[str]:
    """The address of a server in a container."""
    sets = [f"--set=Ringbinder.{part}=fake" for part in ("builder", "registry", "launcher")]
    started = docker(
        "run", "--detach", *LIKE_A_POD, *options, image,
        "serve", "--host=127.0.0.1", "--port=0", *sets, "--set=Ringbinder.extra_plugins=[fake]",
    ).strip()  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "listens at" not in (reported := docker("logs", started)):
            assert time.monotonic() < deadline, reported
            time.sleep(0.2)
        yield reported.partition("listens at ")[2].split()[0]
    finally:
        docker("rm", "--force", started)


@pytest.mark.timeout(900)
async def test_it_serves_as_a_pod_does(docker: Docker, ringbinder_image: str) -> None:
    with serving(docker, ringbinder_image) as address:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.get(f"{address}versions")).json()["ringbinder"] == version("ringbinder")
            async with client.stream("GET", f"{address}build/fake/a/b/c") as launch:
                async for line in launch.aiter_lines():
                    if '"phase": "ready"' in line:
                        return
    pytest.fail("the launch was not ready")


@pytest.mark.timeout(900)
def test_a_plugin_is_installed_as_the_chart_does_it(docker: Docker, ringbinder_image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    template = (ROOT / "charts" / "ringbinder" / "templates" / "_pod.tpl").read_text()
    [script] = re.findall(r"command:\n +- sh\n +- -ec\n +- \|\n(.*?)\n +- plugins\n", template, re.DOTALL)
    example = ROOT / "examples" / "plugins" / "ringbinder-sink-google-cloud"
    reported = docker(
        "run", "--rm", *LIKE_A_POD, f"--volume={example}:/example:ro", f"--volume={tmp_path}:/opt/plugins",
        "--entrypoint=sh", ringbinder_image, "-ec",
        f"cp -r /example /tmp/example; set -- /tmp/example; ({script}); ringbinder plugins list --json",
    )  # fmt: skip
    found = [one for one in json.loads(reported) if one["distribution"] == "ringbinder-sink-google-cloud"]
    assert [one["name"] for one in found] == ["google_cloud"]
    assert not [one for one in json.loads(reported) if one["state"] == "failed"]
