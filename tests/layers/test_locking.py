"""From files to a lock: every kind of file, against a package index and a conda channel of the tests' own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import evolve
from realparts.conda_channel import PYTHON, VERSION, CondaChannel
from realparts.package_index import PackageIndex
from ringbinder import BuildError, Context, Declined, UserError
from ringbinder_layers.model import Lock, Package

from .locking import BASE, TARGET, Locking, named, write

pytestmark = pytest.mark.real("uv")

PROJECT = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\n'


async def locked(context: Context, folder: Path, files: Mapping[str, str]) -> Lock:
    lock = await Locking(context).lock(write(folder, files))
    assert isinstance(lock, Lock), lock
    return lock


async def declined(context: Context, folder: Path, files: Mapping[str, str]) -> str:
    lock = await Locking(context).lock(write(folder, files))
    assert isinstance(lock, Declined)
    return lock.reason


async def failing(context: Context, folder: Path, files: Mapping[str, str]) -> UserError:
    with pytest.raises(UserError) as caught:
        await Locking(context).lock(write(folder, files))
    return caught.value


async def test_lock_of_no_file_is_the_base(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    lock = await locked(context, tmp_path / "r", {"README": "a"})
    assert named(lock) == BASE
    assert lock.python == "3.12"
    assert not lock.conda


async def test_lock_of_requirements_has_what_they_include(
    index: PackageIndex, context: Context, tmp_path: Path
) -> None:
    files = {"requirements.txt": "-r more.txt\n-c limits.txt\nalpha\n", "more.txt": "gamma\n", "limits.txt": "beta<2\n"}
    lock = await locked(context, tmp_path / "r", files)
    assert named(lock) == BASE | {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    alpha = next(package for package in lock.packages if package.name == "alpha")
    file = index.files["alpha"]["alpha-1.0-py3-none-any.whl"]
    assert alpha.digest == f"sha256:{file.digest}"
    assert alpha.size == len(file.content)
    assert alpha.url == f"{index.root}/files/alpha/{file.name}"
    assert alpha.shared


async def test_lock_begins_with_what_most_have(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """Two environments have their first layers in common, which is what engines share."""
    index.add("pandas", "3.0", requires=["numpy"])
    index.add("numpy", "2.0")
    index.add("aaa", "1.0")
    locks = [
        list(named(await locked(context, tmp_path / "r", {"requirements.txt": text})))
        for text in ("aaa", "aaa\npandas")
    ]
    assert locks[0] == [*sorted(BASE), "aaa"]
    assert locks[1] == [*sorted(BASE), "numpy", "pandas", "aaa"]


async def test_lock_takes_the_interpreter_that_is_asked_for(
    index: PackageIndex, context: Context, tmp_path: Path
) -> None:
    lock = await locked(context, tmp_path / "r", {"runtime.txt": "python-3.11", "requirements.txt": "marked"})
    assert lock.python == "3.11"
    assert "gamma" in named(lock)  # for 3.11.9, by its marker
    lock = await locked(context, tmp_path / "r", {"requirements.txt": "marked"})
    assert "gamma" not in named(lock)


async def test_lock_of_pyproject_has_its_dependencies(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    text = f'{PROJECT}dependencies = ["alpha"]\n[tool.uv]\noverride-dependencies = ["beta==1.0"]\n'
    assert named(await locked(context, tmp_path / "r", {"pyproject.toml": text})) == BASE | {
        "alpha": "1.0",
        "beta": "1.0",
    }


async def test_lock_of_uv_lock_has_its_versions(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """And the development group, as `uv sync` has it; the project itself is no package."""
    text = f'{PROJECT}dependencies = ["alpha", "marked"]\n[dependency-groups]\ndev = ["delta"]\n'
    repo = write(tmp_path / "r", {"pyproject.toml": text})
    locking = Locking(context)
    subprocess.run(
        locking.uv.command("lock", "--quiet"), cwd=repo, env=locking.uv.env(tmp_path), check=True, capture_output=True
    )
    index.add("beta", "3.0")
    index.add("alpha", "2.0")
    expected = BASE | {"alpha": "1.0", "beta": "2.0", "marked": "1.0", "delta": "1.0"}
    lock = await locking.lock(repo)
    assert named(lock) == expected


async def test_lock_of_a_workspace_is_declined(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    text = f'{PROJECT}dependencies = ["member"]\n[tool.uv]\nsources = {{member = {{workspace = true}}}}\n'
    text += 'workspace = {members = ["member"]}\n'
    files = {"pyproject.toml": text, "member/pyproject.toml": PROJECT.replace('"p"', '"member"')}
    repo = write(tmp_path / "r", files)
    locking = Locking(context)
    subprocess.run(
        locking.uv.command("lock", "--quiet"), cwd=repo, env=locking.uv.env(tmp_path), check=True, capture_output=True
    )
    lock = await locking.lock(repo)
    assert isinstance(lock, Declined)
    assert lock.reason == "member, which is no package of an index"


async def test_lock_of_uv_lock_with_a_foreign_host_is_declined(
    index: PackageIndex, context: Context, tmp_path: Path
) -> None:
    repo = write(tmp_path / "r", {"pyproject.toml": f'{PROJECT}dependencies = ["gamma"]\n'})
    locking = Locking(context)
    subprocess.run(
        locking.uv.command("lock", "--quiet"), cwd=repo, env=locking.uv.env(tmp_path), check=True, capture_output=True
    )
    (repo / "uv.lock").write_text((repo / "uv.lock").read_text().replace("127.0.0.1", "127.0.0.2"))
    lock = await locking.lock(repo)
    assert isinstance(lock, Declined)
    assert lock.reason == "gamma of 127.0.0.2, where this server takes no packages from"


async def test_lock_of_pipfile_lock_is_complete(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    digest = index.files["alpha"]["alpha-1.0-py3-none-any.whl"].digest
    entries = {"alpha": {"version": "==1.0", "hashes": [f"sha256:{digest}"]}}
    text = json.dumps({"_meta": {"requires": {"python_version": "3.11"}}, "default": entries})
    lock = await locked(context, tmp_path / "r", {"Pipfile.lock": text})
    assert named(lock) == BASE | {"alpha": "1.0"}  # without beta, on which it depends
    assert lock.python == "3.11"


async def test_lock_of_pipfile_has_its_packages(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    lock = await locked(context, tmp_path / "r", {"Pipfile": '[packages]\nalpha = "*"\n'})
    assert named(lock) == BASE | {"alpha": "1.0", "beta": "2.0"}


async def test_lock_of_a_server_has_a_hub_s_packages(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    for name in ("jupyter_server", "jupyterlab", "jupyterhub", "notebook"):
        index.add(name, "7.0")
    lock = named(await locked(context, tmp_path / "r", {"requirements.txt": "jupyter-server"}))
    assert lock == BASE | dict.fromkeys(("jupyter-server", "jupyterlab", "jupyterhub", "notebook"), "7.0")


async def test_base_never_changes_what_is_asked_for(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """An old nbformat excludes nbconvert; an ipywidgets that would need another gamma is left out too."""
    index.add("nbformat", "4.0")
    del index.files["ipywidgets"]
    index.add("ipywidgets", "8.2", requires=["gamma>1"])
    index.add("gamma", "2.0")
    locking = Locking(context)
    lock = await locking.lock(write(tmp_path / "r", {"requirements.txt": "nbformat<5\ngamma<2\n"}))
    assert named(lock) == {"ipykernel": "7.0", "traitlets": "5.0", "pip": "26.0", "nbformat": "4.0", "gamma": "1.0"}
    assert "Left out: ipywidgets>=8,<9, nbconvert" in locking.log.text


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("onlysource", "onlysource, which has no wheel and would have to be built"),
        ("needs_source", "onlysource, which has no wheel and would have to be built"),
        ("-i https://other.example/simple\nalpha", "the package index at other.example"),
        ("--extra-index-url https://u:secret@other.example/simple\nalpha", "the package index at other.example"),
        (
            "alpha @ https://other.example/alpha-1.0-py3-none-any.whl",
            "the package at other.example, where this server takes no packages from",
        ),
        (
            "http://127.0.0.1:1/alpha-1.0-py3-none-any.whl",
            "the package at 127.0.0.1, where this server takes no packages from",
        ),
    ],
)
async def test_lock_declines_what_others_build(
    index: PackageIndex, context: Context, tmp_path: Path, lines: str, reason: str
) -> None:
    assert await declined(context, tmp_path / "r", {"requirements.txt": lines}) == reason


async def test_lock_of_an_address_of_the_index_is_made(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    address = f"{index.root}/files/gamma/gamma-1.0-py3-none-any.whl"
    lock = await locked(context, tmp_path / "r", {"requirements.txt": address})
    gamma = next(package for package in lock.packages if package.name == "gamma")
    assert (gamma.url, gamma.digest) == (address, f"sha256:{index.files['gamma']['gamma-1.0-py3-none-any.whl'].digest}")


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"requirements.txt": "nowhere"}, "build-failed", "nowhere was not found"),
        ({"requirements.txt": "alpha==7"}, "build-failed", "alpha==7"),
        ({"requirements.txt": "newer"}, "build-failed", "3.13"),
        ({"requirements.txt": f"alpha --hash=sha256:{'0' * 64}"}, "hash-mismatch", "alpha 1.0"),
        ({"requirements.txt": f"--require-hashes\ngamma --hash=sha256:{'0' * 64}"}, "hash-mismatch", "gamma 1.0"),
        ({"requirements.txt": "--require-hashes\ngamma"}, "hash-mismatch", "none of gamma"),
        ({"pyproject.toml": PROJECT, "uv.lock": "no lock"}, "build-failed", "uv export"),
        (
            {"runtime.txt": "python-3.10.1", "pyproject.toml": f"{PROJECT}dependencies = []"},
            "bad-file",
            "exclude each other",
        ),
    ],
)
async def test_lock_of_what_cannot_be_had_names_it(
    index: PackageIndex, context: Context, tmp_path: Path, files: dict[str, str], code: str, message: str
) -> None:
    error = await failing(context, tmp_path / "r", files)
    assert error.code == code
    assert message in error.message
    assert isinstance(error, BuildError) == (code != "bad-file")


async def test_lock_with_hashes_takes_the_base_without(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    digest = index.files["gamma"]["gamma-1.0-py3-none-any.whl"].digest
    lines = f"--require-hashes\ngamma==1.0 --hash=sha256:{'0' * 64} --hash=sha256:{digest}"
    assert named(await locked(context, tmp_path / "r", {"requirements.txt": lines})) == BASE | {"gamma": "1.0"}


async def test_lock_has_versions_of_one_builder_only(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """As those of PyTorch, whose addresses have no plus sign."""
    file = index.add("local", "1.0+cpu", tag="cp312-cp312-linux_x86_64")
    file.url = f"{index.root}/files/local/{file.name.replace('+', '%2B')}"
    lock = await locked(context, tmp_path / "r", {"requirements.txt": "local"})
    assert named(lock) == BASE | {"local": "1.0+cpu"}
    assert file.url in {package.url for package in lock.packages}


async def test_index_that_stalls_ends_the_lock(
    index: PackageIndex, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    index.stalls = {"gamma"}
    error = await failing(context, tmp_path / "r", {"requirements.txt": "gamma"})
    assert "`uv pip compile` failed" in error.message


async def test_solver_that_takes_too_long_is_ended(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    index.stalls = {"gamma"}
    locking = Locking(context, timeout=0.5)
    with pytest.raises(BuildError, match=r"did not end within 0\.5 seconds") as caught:
        await locking.lock(write(tmp_path / "r", {"requirements.txt": "gamma"}))
    assert caught.value.code == "build-limit"


async def test_settings_of_uv_in_a_repository_have_no_effect(
    index: PackageIndex, context: Context, tmp_path: Path
) -> None:
    """It names an index that would be asked, and an interpreter that would be run."""
    other = PackageIndex()
    other.add("gamma", "9.0")
    with other.serving():
        settings = f'index = [{{url = "{other.url}", default = true}}]\n'
        files = {
            "requirements.txt": "gamma",
            "uv.toml": settings,
            "pyproject.toml": f"[tool.uv]\n{settings}",
            ".python-version": "/bin/false",
            ".venv/bin/python": "#!/bin/false",
            "pylock.toml": "",
            "setup.cfg": "",
        }
        lock = await locked(context, tmp_path / "r", files)
    assert named(lock)["gamma"] == "1.0"
    assert not other.requests


async def test_index_with_a_password_is_kept_private(
    index: PackageIndex, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is in no lock, and what it gives is for this process alone."""
    own = PackageIndex(login="user:s3cret")
    own.add("secret_one", "1.0")
    with own.serving():
        monkeypatch.setenv("UV_INDEX", f"corp={own.with_login()}")
        locking = Locking(context)
        lock = await locking.lock(write(tmp_path / "r", {"requirements.txt": "secret-one"}))
    assert isinstance(lock, Lock)
    shared = {package.name: package.shared for package in lock.packages}
    assert shared == dict.fromkeys(BASE, True) | {"secret-one": False}
    assert "s3cret" not in repr(lock) + locking.log.text + "".join(package.url for package in lock.packages)
    assert all(login for path, login in own.requests)


async def test_requirements_may_name_an_index_of_the_operator(
    index: PackageIndex, context: Context, tmp_path: Path
) -> None:
    other = PackageIndex()
    other.add("gamma", "9.0")
    with other.serving():
        locking = Locking(context, options={"indexes": (f"{other.url}/",)})
        lock = await locking.lock(
            write(tmp_path / "r", {"requirements.txt": f"--extra-index-url {other.url}\ngamma\n"})
        )
    assert named(lock) == BASE | {"gamma": "9.0"}


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels: ``main`` with a Python, ``more`` with a package."""
    folder = tmp_path_factory.mktemp("channels")
    main, more = CondaChannel(folder / "main", "linux-64"), CondaChannel(folder / "more", "linux-64")
    main.add_python()
    main.add_module("alpha", "1.5", depends=("python", "tool"))
    main.add_module("beta", "2.0")
    main.add_files("tool", "3", {"bin/tool": "#!/bin/sh\n"})
    more.add_module("beta", "7.0")
    asyncio.run(main.index())
    asyncio.run(more.index())
    return folder


@pytest.fixture
def conda(index: PackageIndex, channels: Path, context: Context) -> Locking:
    index.channels = channels
    return Locking(context, options={"channels": ("main",), "alias": f"{index.root}/conda/"})


async def test_lock_of_environment_yml_has_both_kinds(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    """The wheels are those that conda does not bring, for conda's Python."""
    text = "dependencies:\n- alpha\n- beta\n- pip: [alpha, gamma]\n"
    lock = await conda.lock(write(tmp_path / "r", {"environment.yml": text}))
    assert isinstance(lock, Lock)
    kinds = {package.name: package.kind for package in lock.packages}
    assert kinds == dict.fromkeys(("alpha", "beta", "python", "tool"), "conda") | dict.fromkeys(
        (*BASE, "gamma"), "wheel"
    )
    assert named(lock)["alpha"] == "1.5"
    assert (lock.python, lock.conda) == (VERSION, True)
    python = next(package for package in lock.packages if package.name == "python")
    assert python.url == f"{index.root}/conda/main/linux-64/python-{PYTHON}-0.tar.bz2"
    assert python.size
    assert python.facts["name"] == "python"
    assert "Resolved: 7 wheels and 4 conda packages" in conda.log.text


async def test_pip_part_that_replaces_conda_s_is_declined(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    index.add("alpha", "1.5")
    text = "dependencies:\n- alpha\n- pip: [alpha<1.5]\n"
    lock = await conda.lock(write(tmp_path / "r", {"environment.yml": text}))
    assert isinstance(lock, Declined)
    assert lock.reason == "packages of pip that replace conda's"


async def test_channel_below_the_alias_may_be_named(conda: Locking, tmp_path: Path) -> None:
    text = "channels: [more, main]\ndependencies: [beta]\n"
    assert named(await conda.lock(write(tmp_path / "r", {"environment.yml": text})))["beta"] == "7.0"


async def test_solver_s_error_names_the_file(conda: Locking, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"environment\.yml were not found: .*nowhere"):
        await conda.lock(write(tmp_path / "r", {"environment.yml": "dependencies: [nowhere]\n"}))


async def test_dependency_at_an_address_is_never_fetched(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """The metadata of a package lead uv to no host that the operator has not named."""
    other = PackageIndex()
    other.add("gamma", "9.0")
    with other.serving():
        index.add("leads_away", "1.0", requires=[f"gamma @ {other.root}/files/gamma/gamma-9.0-py3-none-any.whl"])
        await failing(context, tmp_path / "r", {"requirements.txt": "leads-away"})
    assert not other.requests


@pytest.mark.parametrize("channel", ["http://127.0.0.2:1/c", "file:///", "./channel", "defaults"])
async def test_channel_elsewhere_is_declined(conda: Locking, tmp_path: Path, channel: str) -> None:
    text = f"channels: ['{channel}']\ndependencies: [beta]\n"
    lock = await conda.lock(write(tmp_path / "r", {"environment.yml": text, "channel/noarch/repodata.json": "{}"}))
    assert isinstance(lock, Declined)


async def test_python_that_the_base_lacks_is_conda_s(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    conda.target = evolve(TARGET, pythons=("3.14.1",))
    files = {"requirements.txt": "gamma", "runtime.txt": f"python-{VERSION}"}
    lock = await conda.lock(write(tmp_path / "r", files))
    assert isinstance(lock, Lock)
    assert named(lock) == BASE | {"gamma": "1.0", "python": PYTHON}
    assert (lock.python, lock.conda) == (VERSION, True)


async def test_python_that_is_nowhere_is_named(conda: Locking, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"asks for Python 3\.6\. The base image has 3\.12\.11, 3\.11\.9, and"
    ) as caught:
        await conda.lock(write(tmp_path / "r", {"runtime.txt": "python-3.6"}))
    assert caught.value.code == "python-not-available"


async def test_lock_of_pixi_toml_has_its_packages(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    text = '[workspace]\nchannels = ["main"]\n[dependencies]\nalpha = "*"\n[pypi-dependencies]\ngamma = "*"\n'
    lock = await conda.lock(write(tmp_path / "r", {"pixi.toml": text}))
    assert named(lock) == BASE | {"alpha": "1.5", "gamma": "1.0", "python": PYTHON, "tool": "3"}


async def test_lock_of_pixi_lock_has_its_versions(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    text = "dependencies: [beta]\n"
    solved = await conda.lock(write(tmp_path / "r", {"environment.yml": text}))
    assert isinstance(solved, Lock)
    gamma = index.files["gamma"]["gamma-1.0-py3-none-any.whl"]
    repo = write(
        tmp_path / "p", {"pixi.lock": pixi_lock(solved, f"{index.root}/files/gamma/{gamma.name}", gamma.digest)}
    )
    lock = await conda.lock(repo)
    assert named(lock) == BASE | {"beta": "2.0", "python": PYTHON, "gamma": "1.0"}


async def test_conda_packages_of_a_token_s_channel_are_private(conda: Locking, tmp_path: Path) -> None:
    """A lock file of a repository names them without the token, which the download adds."""
    solved = await conda.lock(write(tmp_path / "r", {"environment.yml": "dependencies: [beta]\n"}))
    assert isinstance(solved, Lock)
    address = next(package.url for package in solved.packages if package.kind == "conda").partition("/main/")[0]
    conda.options = {**conda.options, "channels": (address.replace("/conda", "/t/tk-1/conda") + "/main",)}
    repo = write(tmp_path / "p", {"pixi.lock": pixi_lock(solved, "", "")})
    lock = await conda.lock(repo)
    assert isinstance(lock, Lock)
    assert {package.shared for package in lock.packages if package.kind == "conda"} == {False}


async def test_wheel_with_endless_tags_is_not_taken_apart(conda: Locking, index: PackageIndex, tmp_path: Path) -> None:
    """Its file name stands for as many tags as its parts have products."""
    solved = await conda.lock(write(tmp_path / "r", {"environment.yml": "dependencies: [beta]\n"}))
    assert isinstance(solved, Lock)
    tags = "-".join(".".join(f"{kind}{number}" for number in range(15)) for kind in ("py", "abi", "linux"))
    address = f"{index.root}/files/gamma/gamma-1.0-{tags}.whl"
    lock = await conda.lock(write(tmp_path / "p", {"pixi.lock": pixi_lock(solved, address, "0" * 64)}))
    assert isinstance(lock, Declined)
    assert lock.reason == "gamma, which has no wheel and would have to be built"


async def test_uv_lock_with_endless_tags_is_refused(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    repo = write(tmp_path / "r", {"pyproject.toml": f'{PROJECT}dependencies = ["gamma"]\n'})
    locking = Locking(context)
    subprocess.run(
        locking.uv.command("lock", "--quiet"), cwd=repo, env=locking.uv.env(tmp_path), check=True, capture_output=True
    )
    tags = "-".join(".".join(f"{kind}{number}" for number in range(15)) for kind in ("py", "abi", "linux"))
    (repo / "uv.lock").write_text((repo / "uv.lock").read_text().replace("-py3-none-any.whl", f"-{tags}.whl"))
    with pytest.raises(BuildError, match=r"no package has a file such as 'gamma-1\.0-py0"):
        await locking.lock(repo)


async def test_conda_python_without_a_minor_version_is_none(
    conda: Locking, index: PackageIndex, tmp_path: Path
) -> None:
    url = f"{index.root}/conda/main/linux-64/python-3-0.conda"
    python = Package("conda", "python", "3", url, f"sha256:{'0' * 64}", facts={"depends": []})
    repo = write(tmp_path / "p", {"pixi.lock": pixi_lock(Lock((python,), ""), "", "")})
    with pytest.raises(UserError, match=r"pixi\.lock has no Python in its environment"):
        await conda.lock(repo)


def pixi_lock(lock: Lock, address: str, digest: str) -> str:
    """The lock file of a workspace with the conda packages of `lock`, and with the wheel at `address`."""
    conda = [package for package in lock.packages if package.kind == "conda"]
    lines = ["version: 6", "environments:", "  default:", "    channels:", "    - url: main", "    packages:"]
    lines += ["      linux-64:", *(f"      - conda: {package.url}" for package in conda)]
    lines += [f"      - pypi: {address}"] if address else []
    lines += ["packages:"]
    for package in conda:
        lines += [f"- conda: {package.url}", f"  sha256: {package.digest.removeprefix('sha256:')}"]
        lines += (
            ["  depends:", *(f"  - {line}" for line in package.facts["depends"])] if package.facts["depends"] else []
        )
    if address:
        lines += [f"- pypi: {address}", "  name: gamma", "  version: '1.0'", f"  sha256: {digest}"]
    return "\n".join(lines) + "\n"
