"""An image's configuration and manifest: as repo2docker's images have them, and the same each time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.model import Descriptor, GitSource, Repo
from ringbinder_layers.image import (
    ImageFacts,
    ImageLayer,
    environment,
    image_config,
    image_manifest,
    repository_labels,
)
from ringbinder_layers.model import Base, Layer

from . import smallbase
from .test_content import BASE as EMPTY

FACTS = ImageFacts("3.12")
REPO = Repo("https://host.example/r", GitSource("https://host.example/r", "1" * 40), "1" * 40, "r", "u", "r")


def layer(number: int, kind: str = "gzip") -> Layer:
    digest = f"sha256:{number:064x}"
    return Layer(Descriptor(f"application/vnd.oci.image.layer.v1.tar+{kind}", digest, number), digest)


def base(**more: Any) -> Base:
    described, _ = smallbase.config(**more)
    return evolve(EMPTY, config=described, layers=(layer(1), layer(2)))


def config(facts: ImageFacts = FACTS, on: Base | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        image_config(on or base(), facts, [ImageLayer(layer(3, "zstd"), "numpy 2.0")], repository_labels(REPO))
    )
    return content


def test_variables_are_those_of_repo2dockers_images() -> None:
    variables = environment(base(), FACTS)
    prefix = smallbase.PREFIX
    assert variables == {
        "HOME": "/home/jovyan", "LANG": "C.UTF-8",
        "PATH": f"/home/jovyan/.local/bin:{prefix}/bin:/srv/jupyter/bin:/usr/bin:/bin",
        "JUPYTER_PATH": f"{prefix}/share/jupyter", "REPO_DIR": "/home/jovyan", "NB_PYTHON_PREFIX": prefix,
        "KERNEL_PYTHON_PREFIX": prefix, "VIRTUAL_ENV": prefix, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def test_conda_environment_has_condas_variables() -> None:
    variables = environment(base(), evolve(FACTS, conda=True))
    assert variables["CONDA_PREFIX"] == variables["CONDA_DEFAULT_ENV"] == smallbase.PREFIX
    assert "VIRTUAL_ENV" not in variables


def test_start_script_is_the_entrypoints_argument() -> None:
    assert environment(base(), evolve(FACTS, start="binder/start"))["R2D_ENTRYPOINT"] == "/home/jovyan/binder/start"


def test_jupyter_path_of_the_base_stays_behind() -> None:
    on = base(Env=["JUPYTER_PATH=/opt/share"])
    assert environment(on, FACTS)["JUPYTER_PATH"] == f"{smallbase.PREFIX}/share/jupyter:/opt/share"


def test_base_decides_how_a_container_starts() -> None:
    own = config()["config"]
    assert own["Entrypoint"] == ["/usr/local/bin/repo2docker-entrypoint"]
    assert (own["Cmd"][0], own["User"], own["ExposedPorts"]) == ("jupyter", "1000:1000", {"8888/tcp": {}})
    assert own["WorkingDir"] == "/home/jovyan"


def test_labels_name_repository_base_and_facts() -> None:
    labels = config(evolve(FACTS, start="start"))["config"]["Labels"]
    assert labels["repo2docker.repo"] == "https://host.example/r"
    assert labels["repo2docker.ref"] == "1" * 40
    assert labels["org.ringbinder.base.prefix"] == smallbase.PREFIX
    assert ImageFacts.parse(labels["org.ringbinder.image"]) == ImageFacts("3.12", start="start")


def test_layers_follow_those_of_the_base() -> None:
    assert [digest[-1] for digest in config()["rootfs"]["diff_ids"]] == ["1", "2", "3"]
    manifest = json.loads(image_manifest(base(), "b:1", [ImageLayer(layer(3, "zstd"), "x")], b"{}").content)
    assert [(each["size"], each["mediaType"].rpartition("+")[2]) for each in manifest["layers"]] == [
        (1, "gzip"), (2, "gzip"), (3, "zstd"),
    ]  # fmt: skip


def test_annotations_name_the_base() -> None:
    annotations = json.loads(image_manifest(base(), "host.example/b:1", [], b"{}").content)["annotations"]
    assert annotations == {
        "org.opencontainers.image.base.name": "host.example/b:1",
        "org.opencontainers.image.base.digest": EMPTY.digest,
        "org.ringbinder.base.layers": "2",
    }


@pytest.mark.parametrize("steps", [[], [{}], [{}, {}], [{}, {"empty_layer": True}, {}], [{}, {}, {}]])
def test_history_has_a_step_for_each_layer(steps: list[dict[str, bool]]) -> None:
    on = base()
    on = evolve(on, config={**on.config, "history": steps})
    history = config(on=on)["history"]
    assert sum(not step.get("empty_layer") for step in history) == 3
    assert history[-1]["created_by"] == "layers: numpy 2.0"


def test_same_facts_give_same_bytes() -> None:
    layers = [ImageLayer(layer(3), "x")]
    shuffled = dict(reversed(list(repository_labels(REPO).items())))
    assert image_config(base(), FACTS, layers, repository_labels(REPO)) == image_config(base(), FACTS, layers, shuffled)


@given(st.builds(ImageFacts, st.text(), st.booleans(), st.text()))
def test_facts_survive_their_label(facts: ImageFacts) -> None:
    assert ImageFacts.parse(facts.text()) == facts


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"python": 3}', '{"python": "3.12", "other": 1}', "[" * 100_000])
def test_label_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own message, or ours
        ImageFacts.parse(text)
