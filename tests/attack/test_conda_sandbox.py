"""Conda packages are strangers': they say where their files go, so they are unpacked in the sandbox too."""

from __future__ import annotations

from pathlib import Path

import pytest
from realparts.conda_channel import CondaChannel
from realparts.embedded import Embedded, entry_of, in_env
from ringbinder.errors import UserError

pytestmark = pytest.mark.real("uv", "bwrap")
ENVIRONMENT = "channels: ['{url}']\ndependencies: [alpha]\n"


@pytest.mark.slow
async def test_conda_environment_in_a_sandbox_has_a_cache_of_its_own(apart: Embedded, tmp_path: Path) -> None:
    channel = CondaChannel(tmp_path / "channel")
    channel.add_python(whole=True)
    channel.add_module("alpha", "1.0")
    await channel.index()
    shared = apart.context.paths.cache / "conda"
    before = sorted(shared.rglob("*"))

    plan = apart.plan({"environment.yml": ENVIRONMENT.format(url=channel.url)})
    image = await apart.build(plan, sandbox="required", conda_channels=(channel.url,))

    assert in_env(image, "import alpha; print(alpha.__version__)") == "1.0"
    assert sorted(shared.rglob("*")) == before
    entry = entry_of(image)
    assert sorted(path.name for path in entry.folder.iterdir()) == ["box", "environment.json", "image.json"]
    assert sorted(entry.box.names()) == ["home", "repo"]
    assert entry.environment is not None
    assert entry.environment.box.names() == ["env"]


@pytest.mark.parametrize("sandbox", ["off", "required"])
async def test_conda_python_that_is_a_link_elsewhere_is_refused(apart: Embedded, tmp_path: Path, sandbox: str) -> None:
    canary = tmp_path / "outside" / "canary"
    canary.parent.mkdir()
    canary.write_text("canary")
    channel = CondaChannel(tmp_path / "channel")
    channel.add_link("python", {"bin/python": str(canary)})
    channel.add_module("alpha", "1.0")
    await channel.index()

    plan = apart.plan({"environment.yml": ENVIRONMENT.format(url=channel.url)})
    with pytest.raises(UserError) as caught:
        await apart.build(plan, sandbox=sandbox, conda_channels=(channel.url,))

    assert caught.value.code in ("bad-file", "build-failed")
    assert canary.read_text() == "canary"
    assert sorted(path.name for path in canary.parent.iterdir()) == ["canary"]


@pytest.mark.slow
async def test_conda_package_writing_over_its_own_link_stays_inside(apart: Embedded, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    channel = CondaChannel(tmp_path / "channel")
    channel.add_python()
    channel.add_link("link", {"share/x": str(outside)})
    channel.add_files("over", "1", {"share/x/canary": "written"})
    channel.add_files("up", "1", {"../../../../../outside/canary": "written"})
    await channel.index()

    for name in ("link, over", "up"):
        text = ENVIRONMENT.format(url=channel.url).replace("alpha", name)
        plan = apart.plan({"environment.yml": text})
        with pytest.raises(UserError):
            await apart.build(plan, sandbox="required", conda_channels=(channel.url,))
        assert list(outside.iterdir()) == []
