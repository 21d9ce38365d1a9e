"""The composite Action in `examples/action`: its shell steps, run as GitHub runs them, in a fresh environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from attrs import define, field
from realparts.package_index import PackageIndex
from realparts.parts import PASSWORD, RealRegistry
from ringbinder import Secret
from ringbinder.testing import image_registry, make_context
from ringbinder_registries.oci import OciRegistry

from tests.layers.locking import frozen_index
from tests.layers.smallbase import publish

from .conftest import Wheels

pytestmark = [pytest.mark.slow, pytest.mark.real("docker-registry")]

ACTION: Final = Path(__file__).parents[2] / "examples" / "action" / "action.yml"
_EXPRESSION: Final = re.compile(r"\$\{\{ *([a-z.-]+) *\}\}")


@define
class Runner:
    """A job of a runner: what its steps share."""

    home: Path
    context: dict[str, str]
    """What expressions name, such as ``github.sha``."""
    variables: dict[str, str]
    outputs: dict[str, str] = field(factory=dict)

    def use(self, **given: str) -> dict[str, str]:
        """Runs the action with these inputs; returns its outputs."""
        action = yaml.safe_load(ACTION.read_text())
        unknown = given.keys() - action["inputs"].keys()
        assert not unknown
        inputs = {name: self._evaluated(about.get("default", "")) for name, about in action["inputs"].items()} | given
        self.outputs = {f"inputs.{name}": text for name, text in inputs.items()}
        for step in action["runs"]["steps"]:
            self._run(step)
        return {name: self._evaluated(about["value"]) for name, about in action["outputs"].items()}

    def _run(self, step: Mapping[str, Any]) -> None:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "what others write reaches a script by its environment alone"
        temp, output = self.home / "temp", self.home / "output"
        temp.mkdir(exist_ok=True)
        output.write_text("")
        own = {name: self._evaluated(text) for name, text in step.get("env", {}).items()}
        environment = {"RUNNER_TEMP": str(temp), "GITHUB_OUTPUT": str(output), **self.variables, **own}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env=environment, cwd=self.home, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            self.outputs[f"steps.{step['id']}.outputs.{name}"] = value

    def _evaluated(self, text: str) -> str:
        return _EXPRESSION.sub(lambda match: (self.context | self.outputs)[match[1]], text)


@pytest.fixture
def runner(tmp_path: Path, wheels: Wheels) -> Runner:
    home = tmp_path / "home"
    home.mkdir()
    given = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    links = f"{wheels.whole.parent} {given.get('PIP_FIND_LINKS', '')}"
    path = f"{sys.base_prefix}/bin:/usr/bin:/bin"
    variables = {**given, "HOME": str(home), "PATH": path, "PIP_FIND_LINKS": links}
    return Runner(home, {"github.repository": "a/b", "github.sha": "1" * 40, "github.token": ""}, variables)


async def test_action_builds_and_pushes(
    runner: Runner, wheels: Wheels, password_registry: RealRegistry, tmp_path: Path
) -> None:
    context = make_context(tmp_path / "context", "oci")
    host = password_registry.host
    options = OciRegistry.Config(username="builder", password=Secret(PASSWORD), image_prefix=f"{host}/")
    registry = image_registry(OciRegistry(options, context))
    await publish(registry, f"{host}/of-action/base", "1")
    (runner.home / "repository").mkdir()
    (runner.home / "repository" / "requirements.txt").write_text("gamma\n")
    index: PackageIndex = frozen_index()
    with index.serving():
        runner.variables["UV_DEFAULT_INDEX"] = index.url
        outputs = runner.use(
            to=f"{host}/of-action/image:tag", link="./repository", username="builder", password=PASSWORD,
            ringbinder=f"ringbinder=={wheels.whole.name.split('-')[1]}", **{"base-image": f"{host}/of-action/base:1"},
        )  # fmt: skip
    manifest = await registry.read_manifest(f"{host}/of-action/image", "tag")
    await context.services.close()
    assert manifest is not None
    assert outputs == {
        "image": f"{host}/of-action/image:tag@{manifest.descriptor.digest}", "digest": manifest.descriptor.digest,
    }  # fmt: skip
