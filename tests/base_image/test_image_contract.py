"""What hubs and people rely on in the images of repositories: the same for those of repo2docker and of `layers`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from attrs import evolve
from realparts.fixtures import Repo2Docker
from realparts.notebooks import notebook
from realparts.parts import RealEngine, RealRegistry
from ringbinder import GitSource, Image, Log, Plan, Repo, Target
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.gitserver import GitServer
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder
from ringbinder_layers.builder import LayersBuilder
from ringbinder_layers.options import LayersBuilderOptions
from ringbinder_providers.git import GitProvider
from ringbinder_registries.oci import OciRegistry

from .contract import (
    BINDERHUB_SHIM,
    TOKEN,
    BuiltImage,
    Docker,
    Files,
    fill,
    ringbinder_shim,
    spawner_arguments,
    spawner_variables,
)

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "jupyterlab", "git"),
    pytest.mark.timeout(900),
]


Build = Callable[[Path, Plan], Awaitable[None]]
Make = Callable[[str, Files], BuiltImage]

FILES: Final[Files] = {
    "README.md": "second\n",
    "requirements.txt": "six==1.17.0\n",
    "start": '#!/bin/bash\nexport CONTRACT_WORD="from start"\nexec "$@"\n',
    "tool": "#!/bin/sh\necho tool runs\n",
    "data/empty": "",
    "data/täble 1.csv": "a,b\n",
    ".local/share/jupyter/kernels/own/kernel.json": json.dumps({
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Own",
    }),
    "first.ipynb": notebook("import six\nprint(six.__version__)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def make(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    docker_engine: RealEngine,
    docker: Docker,
    open_registry: RealRegistry,
) -> Make:
    """Builds the image of a repository with a builder, and gives it to the engine."""

    async def build(builder: str, files: Files) -> BuiltImage:
        folder = tmp_path_factory.mktemp("contract")
        if builder == "docker":
            prefix = "contract-docker/"
            build = _with_docker(docker_engine, request.getfixturevalue("repo2docker_2024"))
        else:
            prefix = f"{open_registry.host}/contract-"
            build = _with_layers(prefix, request.getfixturevalue("layers_base"))
        async with GitServer.running(folder / "served") as server:
            ref = fill(server.repository("contract"), files)
            url = server.url("contract.git")
            repo = Repo(url, GitSource(url, ref), ref, f"contract/{ref}", url, "contract")
            plan = Plan(repo, f"{prefix}repo:{ref}", "build-contract")
            await build(folder / "ringbinder", plan)
        return BuiltImage(builder, plan.image, url, ref, docker)

    def make(builder: str, files: Files) -> BuiltImage:
        image = asyncio.run(build(builder, files))
        if builder == "layers":
            docker_engine.pull(image.name)
        return image

    return make


@pytest.fixture(scope="module", params=["docker", "layers"])
def image(request: pytest.FixtureRequest, make: Make) -> BuiltImage:
    """The image of `FILES`."""
    return make(str(request.param), FILES)


@pytest.fixture(scope="module")
def with_server(make: Make) -> BuiltImage:
    """An image of `layers` whose environment has an extension of the server."""
    return make("layers", {"requirements.txt": "jupyter-server-proxy>=4.4\n"})


def _with_docker(engine: RealEngine, installed: Repo2Docker) -> Build:
    async def build(folder: Path, plan: Plan) -> None:
        options = DockerBuilderOptions(
            repo2docker=str(installed.program), repo2docker_config=installed.config,
            docker_config_path=installed.docker_config / "config.json", docker_host=engine.address,
        )  # fmt: skip
        context = make_context(folder, "docker")
        try:
            builder = DockerBuilder(options, evolve(context, version="1"))
            await builder.build(plan, Target("oci", plan.image), RecordingLog())
        finally:
            await context.services.close()

    return build


def _with_layers(prefix: str, base: str) -> Build:
    async def build(folder: Path, plan: Plan) -> None:
        own = make_context(folder, "oci")
        options = OciRegistry.Config(image_prefix=prefix, docker_config_path=folder / "none.json")
        context = make_context(folder, "layers", registry=OciRegistry(options, own))
        provider = GitProvider(GitProvider.Config(), make_context(folder, "git"))

        async def fetch(repo: Repo, into: Path, log: Log) -> None:
            assert await provider.fetch(repo, into, log)

        application = evolve(context.application, fetch=fetch)
        try:
            builder = LayersBuilder(
                LayersBuilderOptions(image_prefix=prefix, base_image=base),
                evolve(context, version="1", application=application),
            )
            async with asynccontextmanager(builder.lifespan)():
                image = await builder.build(plan, Target("oci", plan.image), RecordingLog())
            assert isinstance(image, Image), image
        finally:
            for each in (context, own, provider.context):
                await each.services.close()

    return build


def test_image_user_home_and_working_folder(image: BuiltImage) -> None:
    printed = image.run('id -u; id -g; id -un; id -Gn; echo "$USER"; echo "$HOME"; pwd; echo "$REPO_DIR"').split()
    assert printed == ["1000", "1000", *["jovyan"] * 3, *["/home/jovyan"] * 3]


def test_image_variables_lead_to_the_environment(image: BuiltImage) -> None:
    names = ("NB_PYTHON_PREFIX", "KERNEL_PYTHON_PREFIX", "CONDA_DIR", "APP_BASE", "SHELL", "LANG", "PYTHONUNBUFFERED")
    printed = image.run("; ".join(f'echo "${name}"' for name in names)).splitlines()
    prefix = "/srv/conda/envs/notebook"
    assert printed == [prefix, prefix, "/srv/conda", "/srv", "/bin/bash", "en_US.UTF-8", "1"]
    assert image.run("locale charmap") == "UTF-8\n"


@pytest.mark.parametrize("login", [False, True], ids=["command", "terminal"])
def test_image_commands_are_the_environments(image: BuiltImage, login: bool) -> None:
    """In a terminal of Jupyter, which is a login shell, as in a command."""
    script = "command -v python pip; python -c 'import sys; print(sys.prefix)'; command -v jupyter-lab git >/dev/null"
    prefix = "/srv/conda/envs/notebook"
    output = image.run(script, login=login)
    assert output.splitlines() == [f"{prefix}/bin/python", f"{prefix}/bin/pip", prefix]
    # What `pip install --user` brings; in repo2docker's images /etc/profile and conda's activation decide the path.
    if image.builder == "layers":
        assert "/home/jovyan/.local/bin" in image.run('echo "$PATH"', login=login).rstrip("\n").split(":")


def test_image_content_is_the_users(image: BuiltImage) -> None:
    script = "; ".join([
        "cat README.md", "readlink link", "./tool", "cat data/t*.csv", "wc -c <data/empty",
        "find . -not -user jovyan -o -not -group jovyan", "stat -c %U /home/jovyan",
    ])  # fmt: skip
    assert image.run(script).splitlines() == ["second", "data/empty", "tool runs", "a,b", "0", "jovyan"]


def test_image_home_and_environment_are_writable(image: BuiltImage) -> None:
    image.run('echo changed >README.md; touch data/new; mkdir -p ~/.local/bin; touch "$NB_PYTHON_PREFIX/new" /tmp/new')


def test_image_git_has_history_and_tags(image: BuiltImage) -> None:
    script = (
        "git rev-parse HEAD; git rev-list --count HEAD; git describe --tags; git -c core.fileMode=false status -s -uno"
    )
    ref, count, described, *changed = image.run(script).splitlines()
    assert (ref, count, changed) == (image.ref, "3", [])
    assert described.startswith("v1.0-2-g")


def test_image_start_runs_before_the_command(image: BuiltImage) -> None:
    assert image.config["Env"].count("R2D_ENTRYPOINT=/home/jovyan/start") == 1
    code = "import os, sys; print(os.environ['CONTRACT_WORD'], sys.argv[1:])"
    arguments = ["one two", "", "*"]
    printed = image.docker("run", "--rm", image.name, "python3", "-c", code, *arguments)
    assert printed == f"from start {arguments}\n"


def test_image_keeps_output_in_its_log_file(image: BuiltImage) -> None:
    printed = image.run("echo shown; until grep -s shown .jupyter-server-log.txt; do sleep 0.1; done")
    assert printed == "shown\nshown\n"


def test_image_has_the_base_packages(image: BuiltImage) -> None:
    image.run("python -c 'import ipykernel, ipywidgets, nbconvert, nbformat, pip'")


def test_image_pip_install_in_a_terminal_works(image: BuiltImage) -> None:
    script = "pip install --quiet 'six<1.17' 2>&1; python -c 'import six; print(six.__version__, six.__file__)'"
    version, file = image.run(script, login=True).splitlines()[-1].split()
    assert version == "1.16.0"
    assert file.startswith("/srv/conda/envs/notebook/lib/")


def test_image_notebook_runs_without_a_server(image: BuiltImage) -> None:
    assert "1.17.0" in image.run("jupyter nbconvert --to notebook --execute --stdout first.ipynb 2>/dev/null")


def test_image_configuration_for_hubs(image: BuiltImage) -> None:
    config = image.config
    assert config["Entrypoint"] == ["/usr/local/bin/repo2docker-entrypoint"]
    assert config["Cmd"] == ["jupyter", "notebook", "--ip", "0.0.0.0"]
    assert config["WorkingDir"] == "/home/jovyan"
    assert "8888/tcp" in config["ExposedPorts"]


def test_image_labels_name_its_origin(image: BuiltImage) -> None:
    labels = image.config["Labels"]
    assert labels["repo2docker.repo"] == image.url
    assert labels["repo2docker.ref"] == image.ref
    assert labels["org.ringbinder.builder"] == image.builder
    assert labels["org.ringbinder.builder.version"]


SERVERS: Final = {
    "ringbinder": ["python3", "-c", ringbinder_shim(), *spawner_arguments()],
    "binderhub": ["python3", "-c", BINDERHUB_SHIM, *spawner_arguments()],
    "jupyterlab": ["jupyter-lab", *spawner_arguments()],
    "singleuser": ["jupyterhub-singleuser"],
    "own": [],
}


@pytest.mark.parametrize("server", SERVERS)
def test_image_server_runs_the_environments_kernels(image: BuiltImage, server: str) -> None:
    own = server == "own"
    env = {"JUPYTER_TOKEN": TOKEN} if own else spawner_variables()
    code = "import os, six, sys; print(sys.prefix, six.__version__, os.environ['CONTRACT_WORD'])"
    kernels = {"python3": code, "own": "import sys; print(sys.executable)"}
    answer = image.serve(SERVERS[server], env, kernels, hub=server == "singleuser")
    prefix = "/srv/conda/envs/notebook"
    assert answer["printed"] == {
        "python3": f"{prefix} 1.17.0 from start\n", "own": f"{prefix}/bin/python\n",
    }  # fmt: skip
    first = "/tree" if own else "/user/somebody/lab"
    assert answer["first_page"].partition("?")[0] == first


def test_image_lab_shows_extensions_of_the_environment(image: BuiltImage) -> None:
    """Those of ipywidgets, without which a widget is a line of text."""
    assert "@jupyter-widgets/jupyterlab-manager" in image.run("jupyter labextension list 2>&1")


def test_image_own_server_extension_is_served_by_itself(with_server: BuiltImage) -> None:
    script = "command -v jupyter-lab jupyterhub-singleuser jupyter-notebook; jupyter server extension list 2>&1"
    lab, singleuser, classic, *extensions = with_server.run(script).splitlines()
    folder = "/srv/conda/envs/notebook/bin"
    assert (lab, singleuser, classic) == (
        f"{folder}/jupyter-lab", f"{folder}/jupyterhub-singleuser", f"{folder}/jupyter-notebook",
    )  # fmt: skip
    assert any("jupyter_server_proxy" in line and "OK" in line for line in extensions), extensions
    code = {"python3": "import sys; print(sys.prefix)"}
    answer = with_server.serve(SERVERS["binderhub"], spawner_variables(), code, hub=False)
    assert answer == {"first_page": "/user/somebody/lab?", "printed": {"python3": "/srv/conda/envs/notebook\n"}}
