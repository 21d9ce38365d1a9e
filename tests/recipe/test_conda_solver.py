"""The program that finds conda packages: for another machine than this one, and from nowhere but where it may."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from realparts.conda_channel import CondaChannel, solve
from realparts.package_index import PackageIndex
from ringbinder_recipe.conda import RefusedError, Solution, virtual_packages

DIGEST = "0" * 64
LOCK = f"""\
version: 6
environments:
  default:
    channels:
    - url: https://conda.example/forge/
    packages:
      linux-64:
      - conda: https://conda.example/forge/noarch/alpha-1.0-0.conda
      - pypi: https://files.example/six-1.16.0-py2.py3-none-any.whl
      - pypi: ./mine
      linux-aarch64:
      - conda: https://conda.example/forge/noarch/beta-1.0-0.conda
packages:
- conda: https://conda.example/forge/noarch/alpha-1.0-0.conda
  sha256: {DIGEST}
  size: 12
- conda: https://conda.example/forge/noarch/beta-1.0-0.conda
- pypi: https://files.example/six-1.16.0-py2.py3-none-any.whl
  name: six
  version: 1.16.0
  sha256: {DIGEST}
- pypi: ./mine
  name: mine
  version: 0.1.0
  sha256: {DIGEST}
"""


@define
class Channels:
    """Channels in one folder, below which names are looked for."""

    folder: Path

    def channel(self, name: str, platform: str = "linux-64") -> CondaChannel:
        return CondaChannel(self.folder / name, platform)

    def solve(self, channel: CondaChannel, specs: Sequence[str], **wanted: Any) -> Solution:
        return solve(channel, specs, self.folder.parent / "solving", **wanted)


@pytest.fixture
def channels(tmp_path: Path) -> Channels:
    return Channels(tmp_path / "channels")


def names(solution: Solution) -> list[str]:
    return [f"{package.name} {package.version}" for package in solution.packages]


async def test_packages_are_those_of_the_given_platform(channels: Channels) -> None:
    channel = channels.channel("arm", "linux-aarch64")
    channel.add("tool", "1.0", {"a": "1"})
    await channel.index()
    (package,) = channels.solve(channel, ["tool"]).packages
    assert (package.subdir, package.build) == ("linux-aarch64", "0")
    assert package.url == f"{channel.url}/linux-aarch64/tool-1.0-0.tar.bz2"
    assert package.size == (channel.folder / "linux-aarch64/tool-1.0-0.tar.bz2").stat().st_size


@pytest.mark.parametrize(("libc", "version"), [((2, 28), "1.0"), ((2, 36), "2.0")])
async def test_packages_fit_the_libc_of_the_image(channels: Channels, libc: tuple[int, int], version: str) -> None:
    channel = channels.channel("libc")
    channel.add("tool", "1.0", {"a": "1"}, depends=["__glibc >=2.17", "__linux", "__unix"])
    channel.add("tool", "2.0", {"a": "2"}, depends=["__glibc >=2.34"])
    channel.add("tool", "3.0", {"a": "3"}, depends=["__cuda"])
    await channel.index()
    solution = channels.solve(channel, ["tool"], virtual_packages=virtual_packages("linux-64", libc))
    assert names(solution) == [f"tool {version}"]


async def test_package_comes_after_what_it_depends_on(channels: Channels) -> None:
    channel = channels.channel("order")
    for name, depends in {"a": ["b"], "b": ["d"], "c": [], "d": ["c"]}.items():
        channel.add(name, "1.0", {name: "1"}, depends=depends)
    await channel.index()
    assert names(channels.solve(channel, ["a"])) == ["c 1.0", "d 1.0", "b 1.0", "a 1.0"]


async def test_channel_of_a_spec_is_below_the_alias(channels: Channels) -> None:
    first, second = channels.channel("first"), channels.channel("second")
    first.add("tool", "2.0", {"a": "1"})
    second.add("tool", "1.0", {"a": "1"})
    second.add("other", "1.0", {"b": "1"})
    await first.index()
    await second.index()
    wanted: dict[str, Any] = {"alias": channels.folder.as_uri(), "folders": [channels.folder]}
    assert names(channels.solve(first, ["second::other"], channels=["first"], only=[], **wanted)) == ["other 1.0"]
    both = channels.solve(first, ["second::tool"], channels=["first", "second"], only=[], **wanted)
    assert names(both) == ["tool 1.0"]


@pytest.mark.parametrize(
    "spec",
    [
        "elsewhere::alpha",
        "https://evil.example/x::alpha",
        "alpha[channel=https://evil.example/x]",
        "https://evil.example/x/noarch/alpha-1.0-0.conda",
        "alpha[url=https://evil.example/x/noarch/alpha-1.0-0.conda]",
        "/etc/alpha-1.0-0.conda",
        "file:///etc/alpha-1.0-0.conda",
    ],
)
async def test_spec_that_leads_elsewhere_is_refused(channels: Channels, spec: str) -> None:
    channel = channels.channel("here")
    channel.add("alpha", "1.0", {"a": "1"})
    await channel.index()
    alias = "https://conda.example/" if spec != "elsewhere::alpha" else f"{channels.folder.as_uri()}/here/below"
    with pytest.raises(RefusedError):
        channels.solve(channel, [spec], alias=alias, folders=[])


@pytest.mark.parametrize(
    "named", ["https://evil.example/x", "../elsewhere", "/etc", "file:///etc", "https://conda.example/../evil", ".."]
)
async def test_channel_that_is_not_named_is_refused(channels: Channels, named: str) -> None:
    channel = channels.channel("here")
    await channel.index()
    alias = "https://conda.example/mirror"
    with pytest.raises(RefusedError, match=r"nor named in LayersBuilder\.conda_channels"):
        channels.solve(channel, ["alpha"], channels=[named], alias=alias)


@pytest.mark.parametrize("spec", ["main::beta", "alpha 2", "elsewhere::alpha", "alpha[url=file:///x]"])
async def test_error_does_not_show_the_operators_password(channels: Channels, spec: str) -> None:
    """rattler quotes what is asked for with the whole address of its channel."""
    channel = channels.channel("t/canary-a/main")
    channel.add("alpha", "1.0", {"a": "1"})
    await channel.index()
    index = PackageIndex(channels=channels.folder)
    with index.serving():
        alias = f"{index.root}/conda/t/canary-a/".replace("//", "//ada:canary-b@", 1)
        assert names(channels.solve(channel, ["main::alpha"], channels=["main"], only=[], alias=alias)) == ["alpha 1.0"]
        (channels.folder.parent / "solving" / "solution").unlink()
        with pytest.raises((AssertionError, RefusedError)) as caught:
            channels.solve(channel, [spec], channels=["main"], only=[], alias=alias)
    assert "canary" not in str(caught.value)


def test_lock_of_pixi_gives_packages_of_both_kinds(channels: Channels, tmp_path: Path) -> None:
    solution = _locked(channels, tmp_path, LOCK, only=[])
    (alpha,) = solution.packages
    assert (alpha.name, alpha.sha256, alpha.size, alpha.version) == ("alpha", DIGEST, 12, "1.0")
    mine, six = sorted(solution.pypi, key=lambda package: package.name)
    assert (six.version, six.sha256) == ("1.16.0", DIGEST)
    assert six.line == "six @ https://files.example/six-1.16.0-py2.py3-none-any.whl"
    assert (mine.sha256, mine.line) == ("", "./mine")


def test_lock_of_pixi_is_read_for_the_given_platform(channels: Channels, tmp_path: Path) -> None:
    (beta,) = _locked(channels, tmp_path, LOCK, platform="linux-aarch64").packages
    assert (beta.name, beta.sha256) == ("beta", "")


def test_package_that_a_lock_has_from_elsewhere_is_refused(channels: Channels, tmp_path: Path) -> None:
    for address in ("https://evil.example/noarch", "file:///etc", "https://conda.example/forge/../../evil"):
        lock = LOCK.replace("https://conda.example/forge/noarch", address)
        with pytest.raises(RefusedError, match="alpha is not below"):
            _locked(channels, tmp_path, lock, alias="https://conda.example/forge/", only=[])


@pytest.mark.parametrize("alias", ["https://ada:secret@conda.example/", "https://conda.example/t/secret"])
def test_lock_need_not_have_the_operators_password(channels: Channels, tmp_path: Path, alias: str) -> None:
    (alpha,) = _locked(channels, tmp_path, LOCK, alias=alias, only=[]).packages
    assert alpha.url == "https://conda.example/forge/noarch/alpha-1.0-0.conda"


def test_package_from_source_in_a_lock_is_refused(channels: Channels, tmp_path: Path) -> None:
    lock = LOCK.replace("      - pypi: ./mine", "      - conda: ./mine\n        subdir: noarch", 1)
    lock += "- conda: ./mine\n  name: mine\n  version: '1.0'\n  build: x\n  subdir: noarch\n"
    with pytest.raises(RefusedError, match="mine is to be built from its source"):
        _locked(channels, tmp_path, lock)


def _locked(channels: Channels, folder: Path, lock: str, **wanted: Any) -> Solution:
    file = folder / "pixi.lock"
    file.write_text(lock)
    facts: dict[str, Any] = {"lock": file, "channels": [], "only": None, "folders": []}
    return channels.solve(channels.channel("none"), [], **(facts | wanted))
