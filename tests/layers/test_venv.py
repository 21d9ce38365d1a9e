"""The environment that an image gets: a real interpreter takes it for its own, and runs what is in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ringbinder_layers.model import Layer, Place
from ringbinder_layers.tar import LayerWriter
from ringbinder_layers.venv import write_kernelspec, write_venv

from .layerfiles import entries, files, unpack
from .wheels import make_wheel, place, write

_PROGRAM = b"""
import json, sys
def main():
    print(json.dumps([sys.prefix, sys.executable, sys.argv[1:]]))
"""


def write_environment(target: Path, where: Place) -> Layer:
    """Make the layer that makes a folder of packages an environment."""
    with LayerWriter(target, where.compression, top=where.prefix, uid=where.uid, gid=where.gid) as writer:
        write_venv(where, writer)
        write_kernelspec(where, writer)
        return writer.finish()


def test_interpreter_runs_scripts_of_the_environment(tmp_path: Path) -> None:
    where = place(str(tmp_path / "image/srv/env"))
    wheel = make_wheel(
        tmp_path,
        "foo",
        {"foo.py": _PROGRAM, "foo-1.0.data/scripts/old": b"#!python\nimport foo\nfoo.main()\n"},
        entry_points="[console_scripts]\nnew = foo:main\n",
    )
    layer, _ = write(wheel, tmp_path / "packages", where)
    unpack(tmp_path / "packages", layer)
    unpack(tmp_path / "venv", write_environment(tmp_path / "venv", where))
    for command in (["bin/new", "x"], ["bin/old", "x"], ["bin/python", "-c", "import foo; foo.main()", "x"]):
        done = subprocess.run(
            [f"{where.prefix}/{command[0]}", *command[1:]], env={}, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == [where.prefix, f"{where.prefix}/bin/python", ["x"]]
    assert (tmp_path / "image/srv/env/lib64/python3").parent.resolve() == tmp_path / "image/srv/env/lib"


def test_layer_of_the_environment_depends_on_its_place_alone(tmp_path: Path) -> None:
    where = Place("/srv/env", "3.12", "/opt/python/3.12/bin/python3.12", "gzip")
    layer = write_environment(tmp_path / "a", where)
    assert layer == write_environment(tmp_path / "b", where)
    found = files(tmp_path / "a", layer)
    assert b"home = /opt/python/3.12/bin\n" in found["/srv/env/pyvenv.cfg"]
    links = {entry.name: entry.linkname for entry in entries(tmp_path / "a", layer) if entry.issym()}
    assert links == {
        "srv/env/bin/python": "/opt/python/3.12/bin/python3.12",
        "srv/env/bin/python3": "python",
        "srv/env/bin/python3.12": "python",
        "srv/env/lib64": "lib",
    }


def test_kernel_names_the_interpreter_of_the_environment(tmp_path: Path) -> None:
    where = place()
    found = files(tmp_path / "layer", write_environment(tmp_path / "layer", where))
    spec = json.loads(found["/srv/env/share/jupyter/kernels/python3/kernel.json"])
    assert spec["argv"][0] == "/srv/env/bin/python"
    assert spec["language"] == "python"
