"""Builds with the real uv."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
from pathlib import Path

import pytest
from attrs import evolve
from ringbinder.errors import BuildError, UserError
from ringbinder.folder_image import FolderImage
from ringbinder.model import Diagnosis, Failure, Plan
from ringbinder.testing import RecordingLog
from ringbinder.testing.context import descendants, left_over
from ringbinder_embedded.installed import has_package

from .conftest import Embedded, entry_of, in_env

pytestmark = pytest.mark.real("uv", "jupyterlab")

ENDLESS = "#!/bin/sh\necho now it takes for ever\nsleep 600 &\nsleep 600\n"


async def failing(embedded: Embedded, plan: Plan, **options: object) -> UserError:
    """The error of a build that must fail, leave no process and nothing that is taken for an image."""
    before = descendants()
    with pytest.raises(UserError) as caught:
        await embedded.build(plan, **options)
    assert await left_over(before) == []
    assert await embedded.registry.check(plan, fresh=True) is None
    target = await embedded.registry.target(plan)
    assert target.folder is not None
    assert not target.folder.exists()
    return caught.value


async def cause_of(embedded: Embedded, plan: Plan, error: UserError) -> Diagnosis:
    tail = tuple(embedded.log.text.splitlines()[-50:])
    diagnosis = await embedded.builder().diagnose(Failure("build", error, tail, plan))
    assert diagnosis is not None
    return diagnosis


async def test_requirements_post_build_and_what_is_always_there(embedded: Embedded) -> None:
    plan = embedded.plan(
        {
            "requirements.txt": "six==1.17.0\n",
            "postBuild": "python -c 'import six, sys; print(sys.prefix)' > made\ntouch ~/.made\necho post built\n",
            "notebook.ipynb": "{}",
        }
    )
    image = await embedded.build(plan)
    entry = entry_of(image)
    assert in_env(image, "import six, ipykernel, pip; print(six.__version__)") == "1.17.0"
    assert (entry.repo.place / "made").read_text().strip() == str(entry.env.place)
    assert (entry.home.place / ".made").exists()
    assert (entry.repo.place / "notebook.ipynb").exists()
    assert image == await embedded.registry.check(plan, fresh=True)
    assert image.size is not None
    assert image.size > 1_000_000
    phases = [phase for phase, _ in embedded.log.lines]
    assert phases[0] == "fetching"
    assert "building" in phases
    assert "post built\n" in [line for _, line in embedded.log.lines]
    assert not entry.scratch.place.exists()


async def test_a_second_builder_waits_and_finds_it(apart: Embedded) -> None:
    plan = apart.plan({"postBuild": "echo once >> count; sleep 1\n"})
    target = await apart.registry.target(plan)
    logs = [RecordingLog(), RecordingLog()]
    await asyncio.gather(*(apart.builder().build(plan, target, log) for log in logs))
    assert sum("waiting for it" in log.text for log in logs) == 1
    assert target.folder is not None
    assert (FolderImage(target.folder).repo.place / "count").read_text() == "once\n"


async def test_what_a_crash_left_is_not_trusted(apart: Embedded) -> None:
    plan = apart.plan({"requirements.txt": ""})
    target = await apart.registry.target(plan)
    assert target.folder is not None
    repo = FolderImage(target.folder).repo.place
    repo.mkdir(parents=True)
    (repo / "stale").touch()
    await apart.build(plan)
    assert not (repo / "stale").exists()


async def test_runtime_txt_that_this_machine_has(embedded: Embedded) -> None:
    version = ".".join(platform.python_version_tuple()[:2])
    image = await embedded.build(embedded.plan({"runtime.txt": f"python-{version}\n"}))
    assert in_env(image, "import platform; print(platform.python_version())").startswith(f"{version}.")


async def test_runtime_txt_that_no_one_has(embedded: Embedded) -> None:
    error = await failing(embedded, embedded.plan({"runtime.txt": "python-3.99\n"}))
    assert error.code == "python-not-available"
    assert "runtime.txt asks for Python 3.99" in error.message
    assert platform.python_version() in error.message, "it says which ones are there"


async def test_a_python_that_two_files_exclude(embedded: Embedded) -> None:
    files = {
        "runtime.txt": "python-3.11.1",
        "pyproject.toml": '[project]\nname="x"\nrequires-python=">=3.13"\n',
    }
    error = await failing(embedded, embedded.plan(files))
    assert (error.code, "exclude each other" in error.message) == ("bad-file", True)


async def test_a_package_in_the_root_and_its_lock(embedded: Embedded) -> None:
    project = (
        '[project]\nname = "tiny"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["six"]\n'
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.setuptools]\npy-modules = ["tiny"]\n'
    )
    files = {"pyproject.toml": project, "tiny.py": "import six\nANSWER = 42\n"}
    image = await embedded.build(embedded.plan(files))
    assert in_env(image, "import tiny; print(tiny.ANSWER)") == "42"

    folder = embedded.sources / "locked"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(project.replace("six", "six<1.17"))
    lock = embedded.builder()._uv
    done = subprocess.run(lock.command("lock"), cwd=folder, env=lock.env(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    locked = {**files, **{path.name: path.read_text() for path in folder.iterdir() if path.is_file()}}
    image = await embedded.build(embedded.plan(locked))
    assert in_env(image, "import tiny, six, ipykernel; print(six.__version__)") == "1.16.0"


@pytest.mark.parametrize(
    ("requirements", "code", "named"),
    [
        ("ringbinder-no-such-package-4711\n", "package-not-found", "ringbinder-no-such-package-4711"),
        ("six==99.0\n", "no-matching-version", "six==99.0"),
        ("six<1.10\nsix>1.16\n", "conflicting-requirements", "six"),
        ("numpy==1.16.0\n--only-binary :all:\n", "no-wheel", "numpy"),
        ("pywin32==306\n", "no-wheel", "another operating system"),
        ("attrs>20.3,<21.2\n", "no-matching-version", "yanked"),
        ("numpy>=999\n", "no-matching-version", "numpy>=999"),
        ("./young\n", "wrong-python", "Python>=3.99"),
    ],
)
async def test_a_requirement_that_cannot_be_met(embedded: Embedded, requirements: str, code: str, named: str) -> None:
    young = '[project]\nname = "young"\nversion = "1"\nrequires-python = ">=3.99"\n'
    plan = embedded.plan({"requirements.txt": requirements, "young/pyproject.toml": young})
    error = await failing(embedded, plan)
    assert isinstance(error, BuildError)
    assert error.message.startswith("`uv pip install` of requirements.txt failed (exit code ")
    diagnosis = await cause_of(embedded, plan, error)
    assert diagnosis.code == code, (diagnosis, embedded.log.text)
    assert named in diagnosis.cause + diagnosis.line
    assert diagnosis.advice
    assert "/images/" not in diagnosis.cause + diagnosis.line, "files are named as in the repository"


@pytest.mark.parametrize(("requirements", "code"), [("six=1.0\n", "bad-file"), ("-r absent.txt\n", "missing-file")])
async def test_a_wrong_requirements_file_is_named(embedded: Embedded, requirements: str, code: str) -> None:
    error = await failing(embedded, embedded.plan({"requirements.txt": requirements}))
    assert (error.code, error.message[:25]) == (code, "requirements.txt (line 1)"), error.message


async def test_a_failing_script(embedded: Embedded) -> None:
    plan = embedded.plan({"postBuild": "#!/bin/sh\nset -e\nringbinder-no-such-tool\n"})
    error = await failing(embedded, plan)
    assert error.message.startswith("postBuild failed (exit code 127): ")
    assert "ringbinder-no-such-tool" in error.message
    diagnosis = await cause_of(embedded, plan, error)
    assert (diagnosis.code, "ringbinder-no-such-tool" in diagnosis.cause) == ("command-not-found", True)


@pytest.mark.parametrize("script", ["#!/bin/bash\r\nexit 0\r\n", "echo no first line\r\npip list\r\n"])
async def test_a_script_with_windows_line_endings_is_named(embedded: Embedded, script: str) -> None:
    error = await failing(embedded, embedded.plan({"binder/postBuild": script}))
    assert error.code == "bad-file"
    assert error.message.startswith("binder/postBuild has Windows line endings (CRLF)")
    assert "sed -i 's/\\r$//' binder/postBuild" in error.message


async def test_a_script_that_the_system_kills(embedded: Embedded) -> None:
    plan = embedded.plan({"postBuild": "#!/bin/sh\nkill -9 $$\n"})
    error = await failing(embedded, plan)
    assert (await cause_of(embedded, plan, error)).code == "out-of-memory"


async def test_other_failures_are_not_explained(embedded: Embedded) -> None:
    for stage, error in [
        ("launch", BuildError("x")),
        ("build", UserError("other", "six was not found in the cache")),
    ]:
        assert await embedded.builder().diagnose(Failure(stage, error)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "options", "named"),
    [
        (ENDLESS, {"build_timeout": 10.0}, "longer than 10 seconds"),
        ("#!/bin/sh\nyes tiresome\n", {"build_output_limit": 100_000}, "more than 100000 bytes"),
        (
            "#!/bin/sh\nfallocate -l 300M big\nsleep 600\n",
            {"build_disk_limit": 200_000_000},
            "more than 200000000",
        ),
    ],
)
async def test_a_limit_ends_the_build(embedded: Embedded, script: str, options: dict[str, float], named: str) -> None:
    error = await failing(embedded, embedded.plan({"postBuild": script}), **options)
    assert (error.code, named in error.message) == ("build-limit", True), error.message
    # On a busy machine the time may be up before postBuild.
    assert "was running" in error.message if "build_timeout" in options else "postBuild was running" in error.message
    assert embedded.log.text.count("tiresome") < 20_000


async def test_cancelled_it_leaves_nothing(embedded: Embedded) -> None:
    before = descendants()
    plan = embedded.plan({"postBuild": ENDLESS})
    building = asyncio.create_task(embedded.build(plan))
    await embedded.log.until("now it takes for ever")
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert await left_over(before) == []
    assert await embedded.registry.check(plan, fresh=True) is None


async def test_secrets_of_the_operator(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv may need a password for its index; scripts of the repository get neither it nor anything else."""
    monkeypatch.setenv("UV_INDEX", "private=https://private.example/simple")
    monkeypatch.setenv("UV_INDEX_PRIVATE_PASSWORD", "planted-1")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://user:planted-2@pypi.example/")
    monkeypatch.setenv("MY_TOKEN", "planted-3")
    monkeypatch.setenv("no_proxy", "http://user:planted-4@proxy.example/")
    monkeypatch.setenv("WANTED", "wanted")
    builder = embedded.builder(pass_environment=("WANTED",))
    assert builder._uv.env(Path("/home"))["UV_INDEX"] == "private=https://:planted-1@private.example/simple"
    monkeypatch.delenv("UV_INDEX")  # there is no such server
    plan = embedded.plan({"postBuild": "env\n"})
    await embedded.build(plan, pass_environment=("WANTED",))
    assert "PATH=" in embedded.log.text
    assert "WANTED=wanted" in embedded.log.text
    assert "planted" not in embedded.log.text
    assert f"HOME={os.environ['HOME']}\n" not in embedded.log.text


async def test_a_server_extension_brings_its_own_server(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"requirements.txt": "jupyter-server\n"}))
    assert has_package(entry_of(image).env, "jupyterlab")


async def test_a_builder_needs_a_folder(embedded: Embedded) -> None:
    plan = embedded.plan({"a": ""})
    target = evolve(await embedded.registry.target(plan), folder=None)
    with pytest.raises(ValueError, match="folder"):
        await embedded.builder().build(plan, target, RecordingLog())
