"""The example registry `layout` with a real engine: its image goes, is given back, and runs as before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from realparts.parts import RealEngine
from ringbinder import Image, LaunchRequest, Target
from ringbinder.testing import RecordingLog, RecordingTicket, folder_plan, make_context

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "ringbinder-registry-layout"


@pytest.mark.timeout(600)
async def test_an_image_goes_and_comes_back(
    docker: Callable[..., str], docker_engine: RealEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    layout = import_module("ringbinder_registry_layout")

    if (busybox := shutil.which("busybox")) is None:
        pytest.fail("busybox is not here: apt install busybox-static")
    files: dict[str, str | bytes] = {
        "Dockerfile": "FROM scratch\nCOPY busybox /bin/sh\nRUN echo kept > /note\nENV WORD=said\n",
        "busybox": Path(busybox).read_bytes(),
    }
    plan = folder_plan(tmp_path / "layout", files)
    (tmp_path / "layout" / "busybox").chmod(0o755)
    docker("build", "--network", "host", "--tag", plan.image, str(tmp_path / "layout"))

    context = make_context(tmp_path, "layout")
    registry = layout.LayoutRegistry(layout.LayoutOptions(tmp_path / "images", docker_engine.address), context)
    assert await registry.check(plan, fresh=True) is None
    image = await registry.push(Image(plan.image, "oci"), await registry.target(plan), RecordingLog())
    assert image is not None
    assert image.size
    assert image.size > len(files["busybox"])
    docker("rmi", "--force", plan.image)
    assert docker("images", "--quiet", plan.image) == ""

    ticket = RecordingTicket("launch", LaunchRequest("gh", "a/b/main"), plan.repo, plan)
    admitted = await registry.admit(ticket)
    assert admitted is not None
    async with admitted:
        run = docker("run", "--rm", "--network", "none", plan.image, "/bin/sh", "-c", "echo $WORD; cat /note")
    assert run.split() == ["said", "kept"]
    again = await registry.push(Image(plan.image, "oci"), Target("oci", plan.image), RecordingLog())
    assert again is not None
    assert again.digest == image.digest
    await context.services.close()
