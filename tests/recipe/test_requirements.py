"""Every form that pip takes in a requirements file: what becomes of it, and the line that an error names."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from ringbinder.errors import UserError
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe.inside import Inside
from ringbinder_recipe.requirements import Requirements

URL = "https://git.example/a/b.git"
DIGEST = f"sha256:{'0' * 64}"


def read(folder: Path, content: str | bytes, more: str = "idna==3.10\n") -> Requirements:
    (folder / "mine").mkdir()
    (folder / "mine" / "more.txt").write_text(more)
    (folder / "requirements.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    requirements = Requirements(Inside(UntrustedTree(folder)))
    requirements.add_file("requirements.txt")
    return requirements


TAKEN: dict[str, list[str]] = {
    # names and versions
    "six": ["six"],
    "  six==1.16.0  # why": ["six==1.16.0"],
    "SIX [x] >= 1.0 , < 2 ; python_version > '3'": ['SIX[x]<2,>=1.0; python_version > "3"'],
    "six (>=1.0)": ["six>=1.0"],
    "six==1.16.0;": ["six==1.16.0"],
    "six===1.16.0": ["six===1.16.0"],
    "six>=1.0, \\\n  <2": ["six<2,>=1.0"],
    "six \\\n# not continued \\\nidna": ["six", "idna"],
    "six\r\nidna\ridle": ["six", "idna", "idle"],
    # addresses and paths
    f"b @ git+{URL}@v1#subdirectory=c": [f"b @ git+{URL}@v1#subdirectory=c"],
    f"git+{URL}@v1#egg=b[x]&subdirectory=c": [f"git+{URL}@v1#egg=b[x]&subdirectory=c"],
    "git+git@git.example:a/b.git@v1": ["git+ssh://git@git.example/a/b.git@v1"],
    "https://h.example/six-1.16.0-py3-none-any.whl": ["https://h.example/six-1.16.0-py3-none-any.whl"],
    "./mine": ["./mine"],
    "mine/": ["mine/"],
    "six-1.16.0.tar.gz": ["six-1.16.0.tar.gz"],
    ".[x]": [".[x]"],
    "-e .": ["-e ."],
    "--editable ./mine[x]": ["-e ./mine[x]"],
    "--editable='./mine'": ["-e ./mine"],
    "-e ./mine[x, y]": ["-e ./mine[x,y]"],
    "-e ./mine;python_version >= '3.9'": ['-e ./mine ; python_version >= "3.9"'],
    # editable packages of git, as `pip freeze` writes them
    f"-e git+{URL}@0123abc#egg=b": [f"git+{URL}@0123abc#egg=b"],
    f"-e git+{URL}@0123abc#egg=b&subdirectory=c": [f"git+{URL}@0123abc#egg=b&subdirectory=c"],
    f"-e git+{URL}#subdirectory=c&egg=b[x]": [f"git+{URL}#subdirectory=c&egg=b[x]"],
    f"--editable=git+{URL}": [f"git+{URL}"],
    f"--editable git+{URL}": [f"git+{URL}"],
    f"-e 'git+{URL}#egg=b'": [f"git+{URL}#egg=b"],
    "-e git+ssh://git@git.example/a/b.git@v1#egg=b": ["git+ssh://git@git.example/a/b.git@v1#egg=b"],
    "-e git+git@git.example:a/b.git#egg=b": ["git+ssh://git@git.example/a/b.git#egg=b"],
    # options for all that is installed
    "-i https://a.example/simple\n--index-url=https://b.example/simple": ["--index-url https://b.example/simple"],
    '--extra-index-url "https://a.example/simple"': ["--extra-index-url https://a.example/simple"],
    "--extra-index https://a.example/": ["--extra-index-url https://a.example/"],
    "-f https://a.example/wheels": ["--find-links https://a.example/wheels"],
    "-fhttps://a.example/wheels --no-index": ["--find-links https://a.example/wheels", "--no-index"],
    "--no-binary :all:\n--only-binary=six,idna": ["--no-binary :all:", "--only-binary six,idna"],
    "--require-hashes": ["--require-hashes"],
    # options for one
    f"six==1.16.0 --hash={DIGEST} \\\n    --hash {DIGEST}": [f"six==1.16.0 --hash={DIGEST} --hash={DIGEST}"],
    # other files
    "-r mine/more.txt": ["idna==3.10"],
    "-rmine/more.txt": ["idna==3.10"],
    "--requirement=mine/more.txt\n-r mine/more.txt": ["idna==3.10"],
    "-r https://h.example/requirements.txt": ["-r https://h.example/requirements.txt"],
}  # fmt: skip


@pytest.mark.parametrize(("content", "lines"), TAKEN.items())
def test_form_that_pip_takes_is_taken(tmp_path: Path, content: str, lines: list[str]) -> None:
    requirements = read(tmp_path, content)
    assert requirements.content == lines
    assert (requirements.constraints, requirements.arguments) == ([], [])


def test_find_links_and_paths_of_an_included_file(tmp_path: Path) -> None:
    """As for pip: links lie beside their file, projects in the repository's root."""
    requirements = read(tmp_path, "-r mine/more.txt", f"-f .\n./mine\n-e git+{URL}#egg=b\n")
    assert requirements.content == [f"--find-links {tmp_path}/mine", "./mine", f"git+{URL}#egg=b"]
    assert requirements.notes == [f"mine/more.txt (line 3): installed from git, but not as editable: git+{URL}#egg=b"]


def test_link_to_a_name_of_several_lines_is_refused(tmp_path: Path) -> None:
    """The second line would be a requirements file outside, whose content uv's error shows."""
    (tmp_path / "d").mkdir()
    (tmp_path / "links").symlink_to("d\n-r /home/somebody/.ssh/id_ed25519")
    with pytest.raises(UserError, match=r"line 1.*has a blank"):
        read(tmp_path, "--find-links links\n")


def test_location_does_not_continue_on_the_next_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1.*ends with a backslash"):
        read(tmp_path, "https://h.example/six.whl\\ # more\nsix\n")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_each_line_of_a_text_in_yaml_is_judged(tmp_path: Path, ends: str) -> None:
    requirements = Requirements(Inside(UntrustedTree(tmp_path)))
    requirements.add_lines([f"six{ends}idna{ends}"], "environment.yml")
    assert requirements.content == ["six", "idna"]
    with pytest.raises(UserError, match="which is not in the repository"):
        requirements.add_lines([f"https://h.example/x.whl{ends}file:///home/somebody/x"], "environment.yml")


def test_constraints_stay_constraints(tmp_path: Path) -> None:
    requirements = read(tmp_path, "six\n-c mine/more.txt", f"six<2\n-e git+{URL}@v1#egg=b\n")
    assert requirements.content == ["six"]
    assert requirements.constraints == ["six<2", f"b @ git+{URL}@v1#egg=b"]


def test_options_that_go_to_the_command_line(tmp_path: Path) -> None:
    requirements = read(tmp_path, '--pre\nsix --config-settings "--build-option=--x"\n')
    assert requirements.content == ["six"]
    assert requirements.arguments == [
        "--prerelease", "allow", "--config-settings-package", "six:--build-option=--x"
    ]  # fmt: skip


def test_options_without_effect_are_passed_over_with_a_word(tmp_path: Path) -> None:
    content = "--trusted-host h.example\n--use-feature=fast-deps\n--prefer-binary\nsix\n"
    requirements = read(tmp_path, content)
    assert requirements.content == ["six"]
    assert [note.partition(" is ")[0] for note in requirements.notes] == [
        "requirements.txt (line 1): --trusted-host", "requirements.txt (line 2): --use-feature",
        "requirements.txt (line 3): --prefer-binary",
    ]  # fmt: skip


LATIN = "# für alle\nsix\n"
TEXTS: dict[str, bytes] = {
    "UTF-8 with a mark": codecs.BOM_UTF8 + LATIN.encode(),
    "UTF-16 little": codecs.BOM_UTF16_LE + LATIN.encode("utf-16-le"),
    "UTF-16 big": codecs.BOM_UTF16_BE + LATIN.encode("utf-16-be"),
    "Latin 1": b"# -*- coding: latin-1 -*-\n" + LATIN.encode("latin-1"),
    "Windows": b"# name\n# vim: set fileencoding=cp1252 :\n" + LATIN.encode("cp1252"),
    "unknown": b"# coding: rot13\nsix\n",
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_text_in_another_encoding_is_read(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content).content == ["six"]


REFUSED: dict[str | bytes, tuple[str, ...]] = {
    "# a\n\nsix=1.16": ("bad-file", "requirements.txt (line 3)", "'six=1.16'", "two equals signs"),
    "six\npip install idna": ("bad-file", "(line 2)", "pip install idna"),
    "numpy=1.19.2=py38h54aff64_0": ("bad-file", "(line 1)", "environment.yml"),
    "pytz==2004d": ("bad-file", "(line 1)", "'pytz==2004d'"),
    "six>=1.*": ("bad-file", "(line 1)", ".* suffix can only be used with"),
    "six <2 >=1": ("bad-file", "(line 1)", "Expected comma"),
    "six, \\\n\\\nidna\n": ("bad-file", "(line 1)"),
    "'six'": ("bad-file", "(line 1)"),
    "six\n--user": ("bad-file", "(line 2)", "no such option: --user", "Take it out"),
    "--process-dependency-links": ("bad-file", "(line 1)", "--process-dependency-links"),
    "-U": ("bad-file", "(line 1)", "-U"),
    'six --install-option="--x"': ("bad-file", "(line 1)", "--install-option"),
    "six --global-option=x": ("bad-file", "(line 1)", "--global-option"),
    "-e ./mine ; maybe": ("bad-file", "(line 1)", "'maybe'"),
    "-e ./mine ./more": ("bad-file", "(line 1)", "no requirement"),
    "- six": ("bad-file", "(line 1)", "- six"),
    "-r": ("bad-file", "(line 1)", "requires 1 argument"),
    "six\n-r gone.txt": ("missing-file", "requirements.txt (line 2)", "'gone.txt'", "Add it"),
    "-r mine/more.txt": ("missing-file", "mine/more.txt (line 2)", "'gone.txt'"),
    "hg+https://h.example/a#egg=a": ("unsupported-file", "(line 1)", "Mercurial"),
    "-e svn+https://h.example/a#egg=a": ("unsupported-file", "(line 1)", "Subversion"),
    "a @ bzr+https://h.example/a": ("unsupported-file", "(line 1)", "Bazaar"),
    "six\n${HOME}/a": ("bad-file", "(line 2)", "HOME"),
    "six\n# f\xfcr\n".encode("latin-1"): ("bad-file", "(line 2)", "UTF-8", "coding: latin-1"),
    f"six @ {'x' * 3000}": ("bad-file", "(line 1)", "2000 characters"),
    "six\n" * 30_000: ("bad-file", "more than 20000 requirements"),
}


@pytest.mark.parametrize(("content", "words"), REFUSED.items(), ids=lambda value: ascii(value)[:40])
def test_form_that_is_refused_is_named_by_its_line(
    tmp_path: Path, content: str | bytes, words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, "six\n-r gone.txt\n")
    assert caught.value.code == words[0]
    for word in words[1:]:
        assert word in caught.value.message
