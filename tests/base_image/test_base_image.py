"""The base image of builder `layers`, in an engine: what its labels promise is there, and its Jupyter runs.

What images on top of it do is in `test_image_contract.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from realparts import layersbase
from realparts.parts import RealEngine

pytestmark = [pytest.mark.real("dockerd", "docker-registry", "debootstrap", "jupyterlab"), pytest.mark.timeout(900)]

Docker = Callable[..., str]
LABEL: Final = "org.ringbinder.base."


@pytest.fixture(scope="module")
def base(docker_engine: RealEngine, layers_base: str) -> str:
    docker_engine.pull(layers_base)
    return layers_base


@pytest.fixture(scope="module")
def labels(docker: Docker, base: str) -> dict[str, str]:
    (image,) = json.loads(docker("image", "inspect", base))
    return {
        name.removeprefix(LABEL): value for name, value in image["Config"]["Labels"].items() if name.startswith(LABEL)
    }


def shell(docker: Docker, image: str, script: str, *options: str) -> str:
    return docker("run", "--rm", "--network=host", *options, image, "sh", "-ec", script)


def test_base_labels_name_what_is_there(docker: Docker, base: str, labels: dict[str, str]) -> None:
    assert labels["format"] == "1"
    assert labels["pythons"] == f"3.11={layersbase.PYTHON}"
    script = f'{layersbase.PYTHON} --version; getconf GNU_LIBC_VERSION; id -u; id -g; echo "$HOME"; echo "$REPO_DIR"'
    version, libc, uid, gid, home, repo_dir = shell(docker, base, script).splitlines()
    assert version.startswith("Python 3.11.")
    assert (libc, f"{uid}:{gid}") == (labels["libc"], labels["user"])
    assert (home, repo_dir) == (labels["home"], labels["repo-dir"])
    assert shell(docker, base, f"ls -A {labels['prefix']} 2>/dev/null || true") == ""


def test_base_has_one_platform_and_no_root(docker: Docker, base: str) -> None:
    (image,) = json.loads(docker("image", "inspect", base))
    assert (image["Os"], image["Architecture"]) == ("linux", "amd64")
    config = image["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/usr/local/bin/repo2docker-entrypoint"]
    assert shell(docker, base, "id -un; stat -c '%U %a' ~; touch ~/file") == "jovyan\njovyan 755\n"


def test_base_commands_are_jupyters_and_no_python(docker: Docker, base: str) -> None:
    versions = shell(docker, base, "jupyter lab --version; jupyterhub-singleuser --version; git --version")
    assert [line.partition(".")[0] for line in versions.splitlines()] == ["4", "5", "git version 2"]
    extensions = re.sub(r"\x1b\[\d*m", "", shell(docker, base, "jupyter server extension list 2>&1"))
    for name in ("jupyterlab", "nbgitpuller", "notebook", "jupyter_resource_usage", "jupyter_offlinenotebook"):
        assert f"{name} enabled" in extensions, extensions
    # The environment's are before these; where it has none of a name, the server's must not take its place.
    assert shell(docker, base, "ls /srv/jupyter/commands | grep -E '^(python|pip)' || echo none") == "none\n"


def test_base_left_nothing_of_its_making(docker: Docker, base: str) -> None:
    left = "ls -A /tmp /root 2>/dev/null; ls /usr/local/bin; find / -xdev -user jovyan -not -path '/home/*' 2>/dev/null"
    printed = shell(docker, base, left, "--user=0:0").splitlines()
    assert "uv" not in printed
    assert "requirements.txt" not in printed
    assert not [line for line in printed if line.startswith(("/srv", "/opt"))]


@pytest.mark.parametrize("shell", ["sh -c", "bash -lc"], ids=["command", "terminal"])
def test_base_activates_conda_packages(docker: Docker, base: str, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "etc" / "conda" / "activate.d" / "gdal.sh"
    script.parent.mkdir(parents=True)
    script.write_text("export GDAL_DATA=$CONDA_PREFIX/share/gdal\n")
    tmp_path.chmod(0o755)
    options = ("--rm", f"--volume={tmp_path}:/env:ro", "--env=CONDA_PREFIX=/env")
    assert docker("run", *options, base, *shell.split(), 'echo "$GDAL_DATA"') == "/env/share/gdal\n"
