"""Locks of random requirements are what uv installs by hand, from the same index into the same Python."""

from __future__ import annotations

import platform
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from realparts.package_index import PackageIndex
from ringbinder import BuildError, Context
from ringbinder_layers.model import Lock
from ringbinder_layers.wheels import Target

from .locking import BASE, Locking, write

pytestmark = [pytest.mark.real("uv"), pytest.mark.slow]

NAMES = ("one", "two", "three", "four", "five", "six")
MINOR = f"{sys.version_info.major}{sys.version_info.minor}"
TAGS = (
    "py3-none-any",
    f"cp{MINOR}-cp{MINOR}-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp38-abi3-manylinux1_x86_64",
)
FOREIGN = ("cp35-cp35m-manylinux1_x86_64", "py3-none-win_amd64", "py3-none-macosx_10_9_x86_64", "py2-none-any")
MARKERS = (
    "", "", f"python_version >= '3.{sys.version_info.minor}'", "python_version < '3.9'", "sys_platform == 'linux'",
    "sys_platform == 'win32'", "platform_machine == 'x86_64'", "implementation_name != 'cpython'",
    f"python_full_version >= '{platform.python_version()}'", "os_name == 'nt'", "extra == 'more'",
)  # fmt: skip


def requirement(rng: random.Random, names: Sequence[str], marker: bool = True) -> str:
    bound = rng.choice(("", "", "", ">=2", "<3", "!=2.0", "~=1.0", "==3.0"))
    extra = rng.choice(("", "", "[more]"))
    condition = rng.choice(MARKERS) if marker else ""
    return f"{rng.choice(names)}{extra}{bound}" + (f" ; {condition}" if condition else "")


def fill(index: PackageIndex, rng: random.Random) -> None:
    """Adds packages that depend on those behind them, with wheels for this machine and for others."""
    for place, name in enumerate(NAMES):
        for version in rng.sample(("1.0", "1.5", "2.0", "3.0", "4.0rc1"), 3):
            later = NAMES[place + 1 :]
            requires = [requirement(rng, later) for _ in range(rng.randint(0, 2))] if later else []
            python = rng.choice(("", "", ">=3.8", ">=3.99", "<4"))
            for tag in (*rng.sample(TAGS, 2), rng.choice(FOREIGN)):
                index.add(name, version, requires=requires, python=python, tag=tag)


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="its wheels are for linux/amd64")
@pytest.mark.parametrize("seed", range(12))
async def test_lock_is_what_uv_installs(index: PackageIndex, context: Context, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    fill(index, rng)
    lines = [*(requirement(rng, NAMES) for _ in range(3)), "ipykernel", "pip"]
    libc = platform.libc_ver()[1].split(".")
    target = Target((platform.python_version(),), "linux/amd64", (int(libc[0]), int(libc[1])))
    locking = Locking(context, target=target)
    uv = locking.uv
    env = tmp_path / "env"
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    for command in (
        ("venv", "--python", sys.executable, env),
        ("pip", "install", "--no-build", "--python", env / "bin" / "python", "-r", tmp_path / "lines.txt"),
    ):
        done = subprocess.run(uv.command(*command), env=uv.env(tmp_path), capture_output=True, text=True, cwd=tmp_path)
    repo = write(tmp_path / "r", {"requirements.txt": "\n".join(lines[:-2])})
    if done.returncode:
        with pytest.raises(BuildError):
            await locking.lock(repo)
        return
    lock = await locking.lock(repo)
    assert isinstance(lock, Lock)
    listed = subprocess.run(
        uv.command("pip", "freeze", "--python", env / "bin" / "python"), env=uv.env(tmp_path), capture_output=True,
        text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    installed = dict(line.split("==") for line in listed.stdout.split())
    versions = {package.name: package.version for package in lock.packages}
    assert {name: version for name, version in versions.items() if name not in BASE or name in installed} == installed
    chosen = {package.name: "-".join(package.url.removesuffix(".whl").split("-")[2:]) for package in lock.packages}
    for name in installed:
        [record] = env.glob(f"lib/python3*/site-packages/{name}-*.dist-info/WHEEL")
        assert f"Tag: {chosen[name]}\n" in record.read_text()
