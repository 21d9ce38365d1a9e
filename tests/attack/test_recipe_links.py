"""What describes an environment is a regular file of the repository: no link to it leaves, and no error shows another's
content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringbinder.errors import UserError
from ringbinder.runtime.bounded import RECIPE_BYTES
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe import condafile, files, pipfile, pixi, recipe
from ringbinder_recipe.inside import Inside
from ringbinder_recipe.requirements import Requirements

CANARY = "canary-7f3a"
FILES = (
    "runtime.txt", "environment.yml", "environment.yaml", "Pipfile", "Pipfile.lock", "requirements.txt", "pixi.toml",
    "pixi.lock", "pyproject.toml", "uv.lock", "uv.toml", "setup.py", "setup.cfg", ".python-version", "postBuild",
    "start", "install.R", "DESCRIPTION", "Dockerfile", "apt.txt", "default.nix", "Project.toml",
)  # fmt: skip


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (tmp_path / "canary").write_text(f"{CANARY}: [\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text(CANARY)
    return folder


def look(repo: Path) -> recipe.Recipe:
    """Read all of the repository that a build reads."""
    tree = UntrustedTree(repo)
    found = recipe.read(tree)
    inside = Inside(tree)
    inside.project()
    if found.requirements:
        Requirements(inside).add_file(found.requirements)
    for file, read in (
        (found.conda, condafile.read),
        (found.pipfile, pipfile.read),
        (found.pixi.removesuffix(".lock"), lambda tree, file: pixi.read(tree, file, "linux-64")),
    ):
        if file and files.kind(tree, file):
            read(tree, file)
    return found


def refused(repo: Path) -> str:
    with pytest.raises(UserError) as caught:
        look(repo)
    assert caught.value.code == "bad-file"
    assert CANARY not in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize("target", ["../canary", "/proc/self/environ", "absolute", "../outside", "/dev/zero", "self"])
@pytest.mark.parametrize("name", FILES)
def test_recipe_file_that_leads_out_is_refused(repo: Path, name: str, target: str) -> None:
    link = {"absolute": str(repo.parent / "canary"), "self": name}.get(target, target)
    (repo / name).symlink_to(link)
    assert name in refused(repo)


@pytest.mark.parametrize("folder", ["binder", ".binder"])
@pytest.mark.parametrize("name", ["runtime.txt", "environment.yml", "requirements.txt", "postBuild"])
def test_binder_folder_that_leads_out_is_refused(repo: Path, folder: str, name: str) -> None:
    (repo.parent / "outside" / name).write_text(CANARY)
    (repo / folder).symlink_to("../outside")
    assert folder in refused(repo)


@pytest.mark.parametrize("name", ["runtime.txt", "environment.yml", "Pipfile", "requirements.txt", "pyproject.toml"])
def test_pipe_in_place_of_a_recipe_file_is_refused(repo: Path, name: str) -> None:
    os.mkfifo(repo / name)
    assert name in refused(repo)


@pytest.mark.parametrize(
    "name", ["runtime.txt", "environment.yml", "Pipfile", "pixi.toml", "requirements.txt", "pyproject.toml"]
)
def test_recipe_file_beyond_the_limit_is_refused(repo: Path, name: str) -> None:
    (repo / name).write_bytes(b"#" * (RECIPE_BYTES + 1))
    assert f"{RECIPE_BYTES} bytes" in refused(repo)


CONDA = recipe.Recipe(conda="binder/environment.yml")


@pytest.mark.parametrize(("links", "found"), [
    ({"binder/environment.yml": "../environment.yml"}, CONDA),
    ({"binder": "build/binder"}, CONDA),
    ({"binder/environment.yml": "../e", "e": "build/binder/environment.yml"}, CONDA),
])  # fmt: skip
def test_links_within_the_repository_are_followed(repo: Path, links: dict[str, str], found: recipe.Recipe) -> None:
    (repo / "build" / "binder").mkdir(parents=True)
    for path in ("environment.yml", "build/binder/environment.yml"):
        (repo / path).write_text("dependencies: [python]\n")
    for name, target in links.items():
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).symlink_to(target)
    assert look(repo) == found


LEAVING: dict[str, dict[str, str]] = {
    "-r": {"requirements.txt": "-r ../canary"},
    "-r with a sign": {"requirements.txt": "--requirement=../canary"},
    "-r after another option": {"requirements.txt": "--no-index -r ../canary"},
    "-r after a hash": {"requirements.txt": "six==1 --hash=sha256:00 -r ../canary"},
    "-r over two lines": {"requirements.txt": "-r \\\n../canary"},
    "-r with quotes": {"requirements.txt": "-r '../canary'"},
    "-r that is absolute": {"requirements.txt": "-r /proc/self/environ"},
    "-r by address": {"requirements.txt": "-r file:///proc/self/environ"},
    "-r in a second file": {"requirements.txt": "-r a/b.txt", "a/b.txt": "-r ../../canary"},
    "-r in UTF-16": {"requirements.txt": "\ufeff-r ../canary"},
    "-r over a variable": {"requirements.txt": "-r ${HOME}/canary"},
    "-r over the root": {"requirements.txt": "-r ${PROJECT_ROOT}/../canary"},
    "-c": {"requirements.txt": "-c ../canary"},
    "-e": {"requirements.txt": "-e ../outside"},
    "-e with a marker": {"requirements.txt": "-e ../outside;python_version > '3'"},
    "-e with extras": {"requirements.txt": "--editable=../outside[extra]"},
    "a path": {"requirements.txt": "../outside"},
    "an absolute path": {"requirements.txt": "/etc/hostname.whl"},
    "an address": {"requirements.txt": "mine @ file:///etc/hostname"},
    "an encoded address": {"requirements.txt": "mine @ file:.%2e/outside"},
    "a repository": {"requirements.txt": "mine @ git+file:///etc"},
    "a subdirectory": {"requirements.txt": "mine @ git+https://git.example/x#subdirectory=../../x"},
    "links": {"requirements.txt": "--find-links ../outside"},
    "links by address": {"requirements.txt": "-f file:///etc"},
    "an index": {"requirements.txt": "--index-url file:///etc"},
    "a second index": {"requirements.txt": "--extra-index-url=../outside"},
    "a dependency": {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["a @ file:///etc/a.whl"]'},
    "a group": {"pyproject.toml": '[dependency-groups]\na = ["a @ ../outside"]'},
    "an extra": {"pyproject.toml": '[project]\nname = "x"\n[project.optional-dependencies]\na = ["a @ file:///etc"]'},
    "a build's requirement": {"pyproject.toml": '[build-system]\nrequires = ["a @ file:///etc"]'},
    "a readme": {"pyproject.toml": '[project]\nname = "x"\nreadme = {file = "/etc/passwd"}'},
    "a readme's path": {"pyproject.toml": '[project]\nname = "x"\nreadme = "../canary"'},
    "a license": {"pyproject.toml": '[project]\nname = "x"\nlicense = {file = "../canary"}'},
    "a source": {"pyproject.toml": '[tool.uv.sources]\na = {path = "../outside"}'},
    "one of several sources": {"pyproject.toml": '[tool.uv.sources]\na = [{index = "x"}, {path = "/etc"}]'},
    "uv's index": {"pyproject.toml": '[[tool.uv.index]]\nurl = "file:///etc"'},
    "uv's links": {"pyproject.toml": '[tool.uv]\nfind-links = ["/etc"]'},
    "uv's pip": {"pyproject.toml": '[tool.uv.pip]\nfind-links = ["/etc"]'},
    "uv's own file": {"uv.toml": 'find-links = ["/etc"]'},
    "a constraint": {"pyproject.toml": '[tool.uv]\nconstraint-dependencies = ["a @ file:///etc"]'},
    "a member": {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["../outside"]'},
    "members": {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["x/../../*"]', "x/y": ""},
    "a project's source": {
        "requirements.txt": "-e ./a",
        "a/pyproject.toml": '[tool.uv.sources]\nb = {path = "../../outside"}',
    },
    "a member's source": {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["packages/*"]',
        "packages/a/pyproject.toml": '[tool.uv.sources]\nb = {path = "../../../outside"}',
    },
    "a lock": {
        "uv.lock": '[[package]]\nname = "a"\nsource = { directory = "../outside" }',
        "pyproject.toml": "[project]",
    },
    "a lock's wheel": {
        "uv.lock": '[[package]]\nname = "a"\nsource = { path = "/etc/a.whl" }',
        "pyproject.toml": "",
    },
    "a lock's index": {"uv.lock": '[[package]]\nsource = { registry = "../outside" }', "pyproject.toml": ""},
}


@pytest.mark.parametrize("files", LEAVING.values(), ids=LEAVING)
def test_path_of_a_recipe_that_leaves_is_refused(repo: Path, files: dict[str, str]) -> None:
    write(repo, files)
    assert "not in the repository" in refused(repo) or "HOME" in refused(repo)


def write(repo: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(content, encoding="utf-16-le" if content.startswith("\ufeff") else "utf-8")


LINKED: dict[str, tuple[dict[str, str], str]] = {
    "an included file": ({"requirements.txt": "-r a.txt"}, "a.txt"),
    "a project": ({"requirements.txt": "-e a"}, "a"),
    "a project by its path": ({"requirements.txt": "./a"}, "a"),
    "links": ({"requirements.txt": "-f a"}, "a"),
    "a project's file": ({"requirements.txt": "./a", "a/x": ""}, "a/pyproject.toml"),
    "a member": ({"pyproject.toml": '[tool.uv.workspace]\nmembers = ["a/*"]', "a/x": ""}, "a/b"),
    "a member's file": (
        {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["a/*"]', "a/b/x": ""},
        "a/b/pyproject.toml",
    ),
    "a source": ({"pyproject.toml": '[tool.uv.sources]\na = {path = "a"}'}, "a"),
}


@pytest.mark.parametrize(("files", "link"), LINKED.values(), ids=LINKED)
def test_link_on_a_recipes_path_that_leaves_is_refused(repo: Path, files: dict[str, str], link: str) -> None:
    write(repo, files)
    (repo / link).symlink_to(repo.parent / ("canary" if "." in link else "outside"))
    refused(repo)


FINE: dict[str, dict[str, str]] = {
    "names": {"requirements.txt": "six==1.16 # why\nidna[x]>=3; python_version > '3'\n--no-binary :all:\n--pre\n"},
    "addresses": {
        "requirements.txt": "--index-url https://u:${TOKEN}@h.example/simple\na @ https://h.example/a/b.whl#sha256=00\n"
        "-e git+https://h.example/a/b.git@v1#egg=b\nc @ git+ssh://git@h.example/c.git@main#subdirectory=d/e\n"
        "https://h.example/x.tar.gz\n-r https://h.example/requirements.txt\n"
    },
    "paths": {
        "requirements.txt": "-e .\n.[extra]\n./a\n-r a/more.txt\n-c a/more.txt\n"
        "b @ file:///${PROJECT_ROOT}/a\n--find-links a\n",
        "a/more.txt": "-r ../requirements.txt\n# ../no\n",
    },
    "a workspace": {
        "pyproject.toml": '[project]\nname = "x"\nreadme = "README.md"\nlicense = "MIT"\n[tool.uv.workspace]\n'
        'members = ["packages/*", "absent"]\n[tool.uv.sources]\na = {workspace = true}\n'
        'b = {path = "./b", editable = true}\n',
        "packages/a/pyproject.toml": '[project]\nname = "a"\nreadme = "../../README.md"\n',
        "uv.lock": 'version = 1\n[[package]]\nname = "a"\nsource = { editable = "packages/a" }\n'
        'wheels = [{ url = "https://h.example/a.whl" }]\n',
    },
    "no TOML": {
        "pyproject.toml": "[project]\nname = {{ cookiecutter.name }}",
        "binder/requirements.txt": "six",
    },
}


@pytest.mark.parametrize("files", FINE.values(), ids=FINE)
def test_path_of_a_recipe_that_stays_is_fine(repo: Path, files: dict[str, str]) -> None:
    write(repo, files)
    tree = UntrustedTree(repo)
    inside = Inside(tree, frozenset({"TOKEN"}))
    inside.project()
    if found := recipe.read(tree).requirements:
        Requirements(inside).add_file(found)


def test_lines_include_what_lies_beside_their_file(repo: Path) -> None:
    write(repo, {"binder/more.txt": "six", "binder/links/x": ""})
    requirements = Requirements(Inside(UntrustedTree(repo)))
    lines = ["-r more.txt", "--find-links=links", "-e ..", "idna==1"]
    requirements.add_lines(lines, "binder/environment.yml")
    assert requirements.lines == ["six", f"--find-links {repo}/binder/links", "-e ..", "idna==1"]
    with pytest.raises(UserError, match="not in the repository"):
        requirements.add_lines(["-e ../.."], "binder/environment.yml")


MIXED: dict[str, str] = {
    "a quoted blank": "-e 'a -r ../canary'",
    "a quoted comment": "-e 'a #/b'",
    "a quoted backslash": "-e 'a\\'\n../canary",
    "a backslash": "--find-links 'a\\'\n../canary",
    "a hash": "six==1 --hash='sha256:00 -r ../canary'",
    "a name": "--no-binary 'a -r ../canary'",
    "a variable": "--no-binary ${HOME}",
}


@pytest.mark.parametrize("content", MIXED.values(), ids=MIXED)
def test_line_that_uv_would_read_in_another_way_is_refused(repo: Path, content: str) -> None:
    write(repo, {"requirements.txt": content, "a/x": ""})
    refused(repo)


def test_files_that_include_each_other_without_end_are_refused(repo: Path) -> None:
    for number in range(500):
        (repo / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    write(repo, {"requirements.txt": "-r 0.txt"})
    assert "files say what is installed" in refused(repo)


QUOTES: dict[str, tuple[str, str]] = {
    "runtime.txt": ("runtime.txt", "x" * 300 + "\x1b]0;title\x07"),
    "environment.yml": ("environment.yml", 'dependencies: ["' + "x " * 9_000 + '\\n!"]'),
    "a dependency": ("environment.yml", 'dependencies: ["' + "=" * 900 + '"]'),
    "a list": ("environment.yml", f"dependencies: [{{a: [{'b, ' * 5000}]}}]"),
    "Python 2": ("environment.yml", f"dependencies: ['python 2{' ' * 5000}x']"),
    "requires-python": ("pyproject.toml", f'[project]\nrequires-python = "{"x" * 9000}"'),
    "a Pipfile": ("Pipfile", f'[packages]\na = {{git = ["{"x" * 900}"], ref = 1, extras = 5}}'),
    "a pixi.toml": ("pixi.toml", f'[dependencies]\na = {{"{"x" * 900}" = 1}}'),
    "platforms": ("pixi.toml", f'[workspace]\nplatforms = ["{"x" * 900}"]'),
    "a path": ("requirements.txt", f"-r ../{'x' * 900}"),
}


@pytest.mark.parametrize(("name", "content"), QUOTES.values(), ids=QUOTES)
def test_error_quotes_at_most_a_short_excerpt(repo: Path, name: str, content: str) -> None:
    (repo / name).write_text(content)
    with pytest.raises(UserError) as caught:
        look(repo)
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("value", ["3." + "9" * 5000, "3.9.9999999999", "2." + "7" * 5000])
def test_version_of_too_many_digits_is_refused(repo: Path, value: str) -> None:
    (repo / "runtime.txt").write_text(f"python-{value}")
    refused(repo)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pixi.toml", '[pypi-dependencies]\na = ">=1\\n-r /etc/passwd"'),
        ("pixi.toml", "[workspace]\nplatforms = 5"),
        ("Pipfile", '[packages]\na = "\\n-r /etc/passwd"'),
        ("environment.yml", 'dependencies: [{pip: ["a\\n-r /etc/passwd"]}]'),
    ],
)
def test_entry_over_several_lines_is_refused(repo: Path, file: str, content: str) -> None:
    (repo / file).write_text(content)
    with pytest.raises(UserError) as caught:
        look(repo)
    assert caught.value.code == "bad-file"
