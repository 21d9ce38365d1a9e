"""Conda packages as layers: the files that py-rattler installs, whatever is in the package."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realparts.conda_channel import PLACEHOLDER, CondaChannel, solve
from ringbinder_layers.conda import write_conda
from ringbinder_layers.model import Place
from ringbinder_layers.prefix import BinaryFile, TextFile

from .condaenv import PREFIX, as_installed, as_layers, comparable, file_of, packages, place_of, read_layer
from .condafiles import file, index, link, old_package, package, paths
from .layerfiles import entries, writer

ENDINGS = ("conda", "tar.bz2")


def add_small_python(channel: CondaChannel, version: str = "3.11.7") -> None:
    """Add what counts as Python: a program and a library of one file."""
    minor = version.rpartition(".")[0]
    files: dict[str, str | bytes] = {f"bin/python{minor}": b"\x7fELF", f"lib/python{minor}/os.py": "import sys\n"}
    channel.add("python", version, files, links={"bin/python": f"python{minor}"})


def add_tool(channel: CondaChannel, ending: str) -> None:
    """Add a package with everything that one can have."""
    channel.add(
        "tool",
        "1.0",
        {
            "bin/run": f"#!{PLACEHOLDER}/bin/python -E\nprint('{PLACEHOLDER}/x')\n",
            "bin/perl-script": f"#!{PLACEHOLDER}/bin/perl",
            "lib/libx.so.1": b"\x7fELF" + f"{PLACEHOLDER}/lib:{PLACEHOLDER}/lib64\0abc\0{PLACEHOLDER}/share".encode(),
            "etc/tool.cfg": f"a={PLACEHOLDER}\nb={PLACEHOLDER}/y:{PLACEHOLDER}",
            "etc/conda/activate.d/tool.sh": "export TOOL=1\n",
            "share/empty": b"",
            # Sorted by folder and by text they come in another order.
            "share/doc-x/a": "1",
            "share/doc/b": "2",
        },
        prefixed={"bin/run": "text", "bin/perl-script": "text", "lib/libx.so.1": "binary", "etc/tool.cfg": "text"},
        links={"lib/libx.so": "libx.so.1", "bin/go": "../bin/run", "share/system": "/etc/os-release"},
        hard_links={"bin/run-too": "bin/run", "share/doc/c": "share/doc/b"},
        depends=["python"],
        ending=ending,
        made_at=1_600_000_000,
    )


def test_descriptions_far_apart_are_read(tmp_path: Path) -> None:
    """Of the one archive of a `.tar.bz2`: what is between them is unpacked in many pieces."""
    target = tmp_path / "far-1.0-0.tar.bz2"
    recipes = [file(f"info/recipe/{number}", os.urandom(50_000)) for number in range(4)]
    far = package(
        target, [index("far"), *recipes, file("info/about.json", b"{}"), paths({"a": b"1"})], [file("a", b"1")]
    )
    with writer(tmp_path / "layer") as made:
        write_conda(target, far, Place(PREFIX, "3.11", f"{PREFIX}/bin/python", "zstd"), made)
        layer = made.finish()
    assert read_layer(tmp_path / "layer", layer)["a"].content == b"1"


def add_command(channel: CondaChannel, ending: str) -> None:
    """Add a package of Python for all platforms, with commands."""
    channel.add(
        "command",
        "2.0",
        {
            "site-packages/command/__init__.py": "def main(): pass\n",
            "site-packages/command/data.txt": PLACEHOLDER,
            "python-scripts/command-old": "#!/bin/sh\n",
            "etc/command": "x",
        },
        prefixed={"site-packages/command/data.txt": "text"},
        depends=["python"],
        noarch="python",
        entry_points=["command = command:main", "command2=command.__init__:Main.run"],
        ending=ending,
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("prefix", [PREFIX, f"/srv/{'long/' * 24}env"], ids=["short", "long"])
async def test_environment_of_layers_is_the_installed_one(tmp_path: Path, ending: str, prefix: str) -> None:
    channel = CondaChannel(tmp_path / "channel")
    add_small_python(channel)
    add_tool(channel, ending)
    add_command(channel, ending)
    await channel.index()
    solution = solve(channel, ["tool", "command"], tmp_path / "solving")
    assert solution.packages[0].name == "python"

    made = comparable(as_layers(solution, tmp_path / "layers", prefix))
    installed = comparable(as_installed(solution, tmp_path / "installed", prefix))

    assert made.keys() == installed.keys()
    assert {path: entry for path, entry in made.items() if entry != installed[path]} == {}
    assert {"bin/command", "bin/command2", "lib/python3.11/site-packages/command/__init__.py"} <= made.keys()
    assert made["etc/tool.cfg"].content == f"a={prefix}\nb={prefix}/y:{prefix}".encode()


async def test_file_of_two_packages_is_the_installed_one(tmp_path: Path) -> None:
    """py-rattler keeps the other files as well, below `__clobbers__`, which nobody reads."""
    for number, depends in enumerate([{}, {"b": "a"}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        channel = CondaChannel(folder / "channel")
        for name in "abc":
            needed = [depends[name]] if name in depends else []
            channel.add(name, "1", {"same": name, f"own/{name}": name}, depends=needed)
        await channel.index()
        solution = solve(channel, ["c", "b", "a"], folder / "solving")
        made, installed = as_layers(solution, folder / "layers"), as_installed(solution, folder / "installed")
        assert made["same"] == installed["same"]
        assert {path.partition("/")[0] for path in installed.keys() - made.keys()} == {"__clobbers__"}


NAMES = st.sampled_from(["bin/a", "lib/b.so", "etc/c/d", "etc/c-d", "share/\N{GREEK SMALL LETTER ALPHA}", "x y"])
PIECES = st.lists(
    st.sampled_from([PLACEHOLDER.encode(), b"\0", b"\n", b"#!", b"/bin/python", b" ", b"/opt", b"x" * 99])
)
FILES = st.tuples(NAMES, PIECES.map(b"".join), st.sampled_from(["text", "binary", ""]))


@settings(max_examples=4, deadline=None)
@given(files=st.lists(FILES, min_size=1, max_size=60), ending=st.sampled_from(ENDINGS))
async def test_files_of_any_package_are_the_installed_ones(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes, str]], ending: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    contents = {f"{number}/{path}": content for number, (path, content, _) in enumerate(files)}
    prefixed = {path: mode for path, (*_, mode) in zip(contents, files, strict=True) if mode}
    channel = CondaChannel(folder / "channel")
    channel.add("any", "1", contents, prefixed=prefixed, ending=ending, noarch="generic")
    await channel.index()
    solution = solve(channel, ["any"], folder / "solving")
    made, installed = as_layers(solution, folder / "layers"), as_installed(solution, folder / "installed")
    assert comparable(made) == comparable(installed)


@given(pieces=PIECES, sizes=st.lists(st.integers(1, 300), min_size=1))
@pytest.mark.parametrize("kind", [TextFile, BinaryFile])
def test_prefix_is_replaced_in_pieces_of_any_size(
    kind: type[TextFile | BinaryFile], pieces: list[bytes], sizes: list[int]
) -> None:
    content = b"".join(pieces)

    class Source:
        """Gives its content in pieces of other sizes than it is asked for."""

        position = number = 0

        def read(self, size: int, /) -> bytes:
            size = min(size, sizes[self.number % len(sizes)])
            self.number += 1
            piece = content[self.position : self.position + size]
            self.position += len(piece)
            return piece

    class Whole(Source):
        def read(self, size: int, /) -> bytes:
            self.position, before = len(content), self.position
            return content[before:]

    def read(source: Source) -> bytes:
        replaced, found = kind(source, PLACEHOLDER, "/srv/env"), b""
        while piece := replaced.read(7):
            found += piece
        return found

    assert read(Source()) == read(Whole())
    if kind is BinaryFile:
        assert len(read(Source())) == len(content)


async def test_layer_is_the_same_for_every_maker(tmp_path: Path) -> None:
    channel = CondaChannel(tmp_path / "channel")
    add_small_python(channel)
    add_tool(channel, "conda")
    await channel.index()
    solution = solve(channel, ["tool"], tmp_path / "solving")
    package = packages(solution)[-1]
    layers = []
    for number in range(2):
        with writer(tmp_path / f"{number}") as target:
            write_conda(file_of(package), package, place_of(solution), target)
            layers.append(target.finish())
    assert layers[0] == layers[1]


async def test_link_script_is_not_run_and_is_remarked_on(tmp_path: Path) -> None:
    channel = CondaChannel(tmp_path / "channel")
    channel.add_files("scripted", "1.0", {"bin/.scripted-post-link.sh": "touch $PREFIX/ran\n"})
    await channel.index()
    solution = solve(channel, ["scripted"], tmp_path / "solving")
    (package,) = packages(solution)
    with writer(tmp_path / "layer") as target:
        remarks = write_conda(file_of(package), package, place_of(solution), target)
        made = target.finish()
    assert remarks == ("scripted has a script for its installation, which was not run",)
    assert "srv/env/ran" not in {entry.name for entry in entries(tmp_path / "layer", made)}


async def test_record_has_no_credentials_of_the_channel(tmp_path: Path) -> None:
    channel = CondaChannel(tmp_path / "channel")
    channel.add_files("alpha", "1.0", {"alpha": "1"})
    await channel.index()
    solution = solve(channel, ["alpha"], tmp_path / "solving")
    (found,) = solution.packages
    address = "https://ada:canary-a@conda.example/t/canary-b/ours/noarch/alpha-1.0-0.tar.bz2"
    record = dict(found.record) | {"url": address, "channel": "https://ada:canary-a@conda.example/t/canary-b/ours/"}
    facts = type(found)(
        found.name, found.version, found.build, found.subdir, address, found.sha256, found.size, record
    ).facts
    assert "canary" not in json.dumps(facts)
    assert facts["url"] == "https://conda.example/ours/noarch/alpha-1.0-0.tar.bz2"
    assert facts["channel"] == "https://conda.example/ours/"


async def test_free_threaded_python_has_its_own_folder(tmp_path: Path) -> None:
    channel = CondaChannel(tmp_path / "channel")
    add_small_python(channel, "3.13.1")
    add_command(channel, "conda")
    await channel.index()
    solution = solve(channel, ["command"], tmp_path / "solving")
    record = dict(solution.packages[0].record) | {"python_site_packages_path": "lib/python3.13t/site-packages"}
    (tmp_path / "changed").write_text(json.dumps(record))
    assert solution.python == "3.13"
    free = json.loads((tmp_path / "solving" / "solution").read_text())
    free["packages"][0]["record"] = record
    solution = type(solution).from_json(json.dumps(free).encode())
    assert solution.python == "3.13t"
    made, installed = as_layers(solution, tmp_path / "layers"), as_installed(solution, tmp_path / "installed")
    assert comparable(made) == comparable(installed)
    assert made["bin/command"].content.startswith(b"#!/srv/env/bin/python3.13\n")
    assert "lib/python3.13t/site-packages/command/__init__.py" in made


async def test_package_from_before_paths_json_is_read(tmp_path: Path) -> None:
    old = "/opt/" + "".join(f"anaconda{number}" for number in (1, 2, 3))
    members = [
        file("bin/run", f"#!{old}/bin/python\n".encode(), 0o755),
        file("lib/a b", f"\0{PLACEHOLDER}/x\0".encode()),
        link("lib/l", "a b"),
    ]
    has_prefix = f'bin/run\n"{PLACEHOLDER}" binary "lib/a b"\n'
    channel = CondaChannel(tmp_path / "channel")
    old_package(channel, "old", members, files="bin/run\nlib/a b\nlib/l\n", has_prefix=has_prefix)
    await channel.index()
    solution = solve(channel, ["old"], tmp_path / "solving")
    made, installed = as_layers(solution, tmp_path / "layers"), as_installed(solution, tmp_path / "installed")
    assert comparable(made) == comparable(installed)
    assert made["bin/run"].content == b"#!/srv/env/bin/python\n"
