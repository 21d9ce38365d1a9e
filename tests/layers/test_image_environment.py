"""Images of random requirements: their environment is the one that uv installs at the same path."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from realparts.package_index import PackageIndex
from ringbinder.plugins.context import Context
from ringbinder.testing.ociregistry import OciServer

from .building import Site
from .locking import BASE
from .smallbase import config, publish
from .wheels import MINOR, Entry, comparable, environment_on_disk, install_with_uv, make_venv


def fill(index: PackageIndex, chance: random.Random) -> list[str]:
    """Add packages in several versions, which need one another and bring files of all kinds; return their names."""
    names = [f"random_{letter}" for letter in "abcdefgh"]
    for number, name in enumerate(names):
        for version in ("1.0", "1.1", "2.0")[: chance.randint(1, 3)]:
            needed = [f"{other}>={chance.choice(['0', '1.0'])}" for other in names[:number] if chance.random() < 0.3]
            data = f"{name}-{version}.data"
            files = {
                f"{name}/__init__.py": version,
                f"shared/{name}.py": version * chance.randint(0, 2000),
                f"{data}/data/share/{name}/notes.txt": version,
                f"{data}/scripts/run-{name}": "#!python\n",
                f"{data}/headers/{name}.h": "",
                f"{data}/purelib/{name}/more.py": "",
                f"{name}-{version}.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
            }
            kept = {path: text for path, text in files.items() if chance.random() < 0.7}
            index.add(name, version, requires=needed, files=kept)
    return names


@pytest.mark.real("uv")
@pytest.mark.parametrize("seed", range(4))
async def test_environment_of_an_image_is_that_of_uv(
    context: Context, server: OciServer, index: PackageIndex, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    names = fill(index, chance)
    lines = [f"{name}{chance.choice(['', '', '>=1.0', '<2'])}" for name in chance.sample(names, chance.randint(1, 6))]
    prefix = tmp_path / "env"
    labels = {"prefix": str(prefix), "pythons": f"{MINOR}=/usr/bin/python{MINOR}"}
    await publish(context.registry, f"{server.host}/base", "1", config(labels))
    async with Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site:
        image = await site.build(site.plan(tmp_path / "repository", {"requirements.txt": "\n".join(lines)}))

    make_venv(prefix)
    install_with_uv(prefix, "--cache-dir", str(tmp_path / "cache"), "--index-url", index.url, *lines, *BASE)
    contents, installed = image.files, {}
    for path, entry in image.entries.items():
        if path.startswith(f"{prefix}/") and not entry.isdir():
            content = entry.linkname.encode() if entry.issym() else contents[path]
            installed[os.path.relpath(path, prefix)] = Entry(entry.mode, content)
    found, expected = comparable(installed), comparable(environment_on_disk(prefix))
    # The base's interpreter, and the kernel that leads to it.
    for path in ("bin/python", "share/jupyter/kernels/python3/kernel.json"):
        del found[path]
        expected.pop(path, None)
    assert found == expected
