"""Repositories of the shapes that people bring, each launched by its link, with what must come of it.

A real git server, the whole application, real builds, real notebooks. They are written after the structure of
the popular Binder examples; the packages are small, so that the table stays quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
import structlog
from attrs import field, frozen
from realparts.conda_channel import VERSION, CondaChannel
from ringbinder.app import running
from ringbinder.config.loading import load
from ringbinder.model import LaunchRequest, Server
from ringbinder.protocol import Event
from ringbinder.testing.gitserver import GitServer, Repository
from ringbinder.testing.kernel import open_kernel

pytestmark = [pytest.mark.real("git", "uv", "jupyterlab"), pytest.mark.timeout(600)]

NOTEBOOK: Final = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
LFS_POINTER: Final = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
SRC_LAYOUT: Final = (
    '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "tidy"\nversion = "1"\ndependencies = ["six"]\n'
    '[project.optional-dependencies]\nextra = ["idna"]\n'
    '[tool.setuptools.packages.find]\nwhere = ["src"]\n'
)
PACKAGE: Final = {"pyproject.toml": SRC_LAYOUT, "src/tidy/__init__.py": "def answer():\n    return 42\n"}
SCM: Final = (
    '[build-system]\nrequires = ["setuptools>=64", "setuptools-scm>=8"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "tagged"\ndynamic = ["version"]\n'
    '[tool.setuptools]\npy-modules = ["tagged"]\n[tool.setuptools_scm]\n'
)
HATCH_VCS: Final = (
    '[build-system]\nrequires = ["hatchling", "hatch-vcs"]\nbuild-backend = "hatchling.build"\n'
    '[project]\nname = "tagged"\ndynamic = ["version"]\n'
    '[tool.hatch.version]\nsource = "vcs"\n[tool.hatch.build]\ninclude = ["tagged.py"]\n'
)
VERSIONEER: Final = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools>=64", "versioneer[toml]==0.29"]\n'
    'build-backend = "setuptools.build_meta"\n'
    '[tool.versioneer]\nVCS = "git"\nstyle = "pep440"\nversionfile_source = "_version.py"\ntag_prefix = "v"\n',
    "setup.py": "import versioneer\nfrom setuptools import setup\n"
    "setup(name='tagged', version=versioneer.get_version(), cmdclass=versioneer.get_cmdclass(), "
    "py_modules=['tagged'])\n",
}
VERSION_OF_TAGGED: Final = "from importlib.metadata import version; print(version('tagged').partition('+')[0])"
GIT_IN_THE_NOTEBOOK: Final = """
import subprocess

def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

log = git("log", "--oneline").splitlines()
described = git("describe").partition("-g")[0]
git("checkout", "-q", "other")
print(len(log), described, open("where.txt").read())
"""


@frozen
class Shape:
    """A repository, and either what `code` prints in its notebook, or the code and words of the failure."""

    files: Mapping[str, str | bytes] = field(factory=dict)
    code: str = ""
    prints: str = ""
    fails: tuple[str, ...] = ()
    """The error's code, or several that may be, divided by bars; then what its event must name."""
    ref: str = "main"
    log: str = ""
    """What the log must say."""
    make: Callable[[Repository, GitServer], None] = lambda repository, server: None
    options: Mapping[str, str] = field(factory=dict)


def tagged(repository: Repository, server: GitServer) -> None:
    """The tag v1.5, two commits after it, and another branch."""
    repository.tag("v1.5", annotated=True)
    repository.branch("other")
    repository.commit({"where.txt": "on the branch"})
    repository.switch("main")
    for n in range(2):
        repository.commit({"tagged.py": f"N = {n}\n"})


def branch_with_slashes(repository: Repository, server: GitServer) -> None:
    repository.branch("release/2026/stable")
    repository.commit({"where.txt": "on the branch"})
    repository.switch("main")


def submodules(repository: Repository, server: GitServer) -> None:
    inner = server.repository("lessons/data")
    commit = inner.commit({"table.csv": "a,b\n1,2\n"})
    repository.submodule("data", server.url("lessons/data"), commit)
    repository.commit()


def much_data(repository: Repository, server: GitServer) -> None:
    with (repository.folder / "data.bin").open("wb") as file:
        for _ in range(500):
            file.write(b"data" * 250_000)  # not zeros, of which git makes holes
    repository.git("config", "core.compression", "1")
    repository.commit()


SHAPES: Final = {
    "requirements": Shape({"requirements.txt": "six==1.17.0\n"}, "import six; print(six.__version__)", "1.17.0"),
    "nothing but notebooks": Shape(code="import os; print(sorted(os.listdir()))", prints="['.git', 'index.ipynb']"),
    "environment.yml": Shape(
        {"environment.yml": "channels: [@CHANNEL@]\ndependencies:\n- alpha=1\n- pip: [six]\n"},
        "import alpha, six; print(alpha.__version__)",
        "1.0",
    ),
    "binder folder": Shape(
        {"binder/requirements.txt": "six\n", "Dockerfile": "FROM x\n", "environment.yml": "a: b\n"},
        "import six; print(six.__name__)",
        "six",
    ),
    "hidden binder folder": Shape(
        {".binder/requirements.txt": "six\n", ".binder/postBuild": "echo made > made.txt\n"},
        "print(open('made.txt').read(), end='')",
        "made",
    ),
    "postBuild": Shape(
        {"postBuild": "#!/bin/bash\nset -e\npip install --quiet six\npython -c 'import six' && echo 1 > n.txt\n"},
        "import six; print(open('n.txt').read(), end='')",
        "1",
    ),
    "start": Shape(
        {"start": '#!/bin/bash\nexport LESSON=three\nexec "$@"\n'},
        "import os; print(os.environ['LESSON'])",
        "three",
    ),
    "src layout": Shape(PACKAGE, "import tidy, six; print(tidy.answer())", "42"),
    "package with extras": Shape(
        {**PACKAGE, "requirements.txt": ".[extra]\n"}, "import tidy, idna; print(tidy.answer())", "42"
    ),
    "editable package": Shape(
        {**PACKAGE, "binder/requirements.txt": "-e .\n"},
        "import tidy, os; print(tidy.__file__ == os.path.abspath('src/tidy/__init__.py'))",
        "True",
    ),
    "setup.py": Shape(
        {
            "setup.py": "from setuptools import setup\nsetup(name='old', version='1', py_modules=['old'])\n",
            "old.py": "ANSWER = 42\n",
        },
        "import old; print(old.ANSWER)",
        "42",
    ),
    "Pipfile": Shape({"Pipfile": '[packages]\nsix = "<1.17"\n'}, "import six; print(six.__version__)", "1.16.0"),
    "runtime.txt": Shape(
        {"runtime.txt": f"python-{VERSION}\n"},
        "import sys; print('%s.%s' % sys.version_info[:2])",
        VERSION,
    ),
    "10,000 files": Shape(
        {f"data/{at // 100}/{at}.txt": f"{at}\n" for at in range(10_000)},
        "import glob; print(len(glob.glob('data/*/*.txt')))",
        "10000",
    ),
    "submodules": Shape(code="print(open('data/table.csv').read().split()[-1])", prints="1,2", make=submodules),
    "git in the notebook": Shape(code=GIT_IN_THE_NOTEBOOK, prints="3 v1.5-2 on the branch", make=tagged),
    "setuptools_scm": Shape(
        {"pyproject.toml": SCM, "requirements.txt": ".\n"}, VERSION_OF_TAGGED, "1.6.dev2", make=tagged
    ),
    "setuptools_scm, editable": Shape(
        {"pyproject.toml": SCM, "binder/requirements.txt": "-e .\n"},
        VERSION_OF_TAGGED,
        "1.6.dev2",
        make=tagged,
    ),
    "setuptools_scm, postBuild without its bit": Shape(
        {
            "binder/requirements.txt": "",
            "binder/postBuild": "pip install --quiet .\n",
            "pyproject.toml": SCM.replace("[tool.setuptools_scm]", '[tool.setuptools_scm]\nlocal_scheme = "dirty-tag"'),
        },
        "from importlib.metadata import version; print(version('tagged'))",
        "1.6.dev2",
        make=tagged,
    ),
    "hatch-vcs": Shape({"pyproject.toml": HATCH_VCS}, VERSION_OF_TAGGED, "1.6.dev2", make=tagged),
    "versioneer": Shape(VERSIONEER, VERSION_OF_TAGGED, "1.5", make=tagged),
    "LFS pointers": Shape(
        {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "model.bin": LFS_POINTER},
        "print(open('model.bin').read().split()[0])",
        "version",
        log="kept with Git LFS",
    ),
    "unicode names": Shape(
        {"größe/データ ünï.csv": "é\n", "Übung 1.ipynb": NOTEBOOK},
        "import os; print(open('größe/' + os.listdir('größe')[0], encoding='utf-8').read(), end='')",
        "é",
    ),
    "branch with slashes": Shape(
        code="print(open('where.txt').read())",
        prints="on the branch",
        ref="release/2026/stable",
        make=branch_with_slashes,
    ),
    "pinned old numpy": Shape(
        {"requirements.txt": "numpy==1.16.0\n"}, fails=("package-build-failed|no-wheel", "numpy")
    ),
    "broken pin": Shape({"requirements.txt": "six==99.0\n"}, fails=("no-matching-version", "six")),
    "missing file": Shape({"requirements.txt": "-r more.txt\n"}, fails=("missing-file", "more.txt")),
    "misspelt package": Shape(
        {"requirements.txt": "ringbinder-no-such-package-4711\n"},
        fails=("package-not-found", "ringbinder-no-such-package-4711"),
    ),
    "failing postBuild": Shape(
        {"postBuild": "#!/bin/bash\nset -e\nringbinder-no-such-tool\n"},
        fails=("command-not-found", "ringbinder-no-such-tool"),
    ),
    "500 MB of data": Shape(
        make=much_data,
        options={"LocalBuilder.build_disk_limit": "300M"},
        fails=("build-limit", "LocalBuilder.build_disk_limit"),
    ),
    "Dockerfile": Shape({"Dockerfile": "FROM x\n"}, fails=("unsupported-file", "Dockerfile", "docker")),
    "apt.txt": Shape(
        {"apt.txt": "vim\n", "requirements.txt": "six\n"},
        fails=("unsupported-file", "apt.txt", "conda-forge"),
    ),
    "R": Shape(
        {"runtime.txt": "r-4.4-2026-01-01\n", "install.R": ""},
        fails=("unsupported-file", "runtime.txt", "r-irkernel"),
    ),
    "Julia": Shape({"Project.toml": ""}, fails=("unsupported-file", "Project.toml")),
    "a Python that nobody has": Shape({"runtime.txt": "python-3.99\n"}, fails=("python-not-available", "3.99")),
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> CondaChannel:
    channel = CondaChannel(tmp_path_factory.mktemp("channel"))
    channel.add_python()
    channel.add_module("alpha", "1.0")
    channel.add_module("alpha", "2.0")
    asyncio.run(channel.index())
    return channel


@asynccontextmanager
async def launched(
    base: Path, link: str, options: Mapping[str, str]
) -> AsyncIterator[tuple[list[Event], Server | None]]:
    """The events of one launch up to its end, and its server."""
    settings = {
        "Ringbinder.state_folder": str(base / "state"),
        "Ringbinder.cache_folder": str(base / "cache"),
        **options,
    }
    config = load(environ={}, sets=[f"{name}={value}" for name, value in settings.items()])
    async with running(config, structlog.get_logger()) as app:
        session = app.launch(LaunchRequest("git", link, local=True))
        events = [event async for batch in session.read() for _, event in batch]
        yield events, session.server


@pytest.mark.parametrize("name", SHAPES)
async def test_a_repository_of_this_shape(
    name: str, git_server: GitServer, channel: CondaChannel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = SHAPES[name]
    repository = git_server.repository("lessons/repo")
    files = {"index.ipynb": NOTEBOOK, **shape.files}
    repository.commit(
        {
            path: content.replace("@CHANNEL@", channel.url) if isinstance(content, str) else content
            for path, content in files.items()
        }
    )
    shape.make(repository, git_server)
    link = f"{quote(git_server.url('lessons/repo'), safe='')}/{quote(shape.ref, safe='')}"
    base = tmp_path_factory.getbasetemp() / "embedded"
    # The channel is a folder of this machine: the operator has to name it.
    options = {"LocalBuilder.conda_channels": f'["{channel.url}"]', **shape.options}
    async with launched(base, link, options) as (events, server):
        end = events[-1]
        log = "".join(event.message for event in events)
        assert shape.log in log
        assert log.count("Fetching http") == 1
        if shape.fails:
            code, *named = shape.fails
            assert end.phase == "failed", log
            assert end.data["code"] in code.split("|"), (end, log)
            reported = end.json.decode()
            assert all(word in reported for word in named), reported
            return
        assert end.phase == "ready", log
        assert server is not None
        kernel = await open_kernel(server)
        assert (await kernel.run(shape.code)).strip() == shape.prints
        await kernel.close()
