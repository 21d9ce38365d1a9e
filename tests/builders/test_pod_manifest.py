"""What build pods look like, and which node they prefer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.config.loading import load
from ringbinder.secret import Secret
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_builders._pod_manifest import credentials, merged, pod, rendezvous
from ringbinder_builders.kubernetes import KubernetesBuilder
from ringbinder_builders.repo2docker import RegistryLogin

from .conftest import REPO, make_plan

PLAN = make_plan()


def made(options: KubernetesBuildOptions, **arguments: Any) -> dict[str, Any]:
    return pod(PLAN, options, ["jupyter-repo2docker", REPO], "attempt", "random", **arguments)


def test_the_documented_pod() -> None:
    options = KubernetesBuildOptions(
        build_image="r2d:1", extra_envs={"A": "1"}, image_pull_secrets=("pull", {"name": "other"}),
        node_selector={"pool": "builds"}, resources={"requests": {"cpu": "1"}}, memory_limit=2**30,
    )  # fmt: skip
    built = made(options)
    assert built["metadata"] == {
        "name": PLAN.build,
        "labels": {"name": PLAN.build, "component": "binderhub-build"},
        "annotations": {
            "binder-repo": REPO, "ringbinder.org/image": PLAN.image, "ringbinder.org/attempt": "attempt",
        },
    }  # fmt: skip
    spec = built["spec"]
    [container] = spec["containers"]
    assert (container["name"], container["image"]) == ("builder", "r2d:1")
    assert container["args"] == ["jupyter-repo2docker", REPO]
    assert container["env"] == [
        {"name": "DOCKER_CONFIG", "value": "/run/ringbinder/random"},
        {"name": "REGISTRY_AUTH_FILE", "value": "/run/ringbinder/random/config.json"},
        {"name": "A", "value": "1"},
    ]
    assert container["resources"] == {"limits": {"memory": str(2**30)}, "requests": {"cpu": "1"}}
    assert container["volumeMounts"] == [
        {"name": "docker-socket", "mountPath": "/var/run/docker.sock"},
        {"name": "docker-config", "mountPath": "/run/ringbinder/random/config.json", "subPath": "config.json",
         "readOnly": True},
    ]  # fmt: skip
    assert spec["volumes"] == [
        {"name": "docker-socket", "hostPath": {"path": "/var/run/docker.sock", "type": "Socket"}},
        {"name": "docker-config", "secret": {"secretName": "binder-build-docker-config"}},
    ]
    assert spec["imagePullSecrets"] == [{"name": "pull"}, {"name": "other"}]
    assert spec["nodeSelector"] == {"pool": "builds"}
    assert {toleration["key"] for toleration in spec["tolerations"]} == {
        "hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated",
    }  # fmt: skip
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 14400
    assert "podAntiAffinity" in spec["affinity"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False}


def test_without_a_socket_and_without_a_registry() -> None:
    spec = made(KubernetesBuildOptions(docker_host=None, use_registry=False))["spec"]
    assert spec["volumes"] == spec["containers"][0]["volumeMounts"] == []


def test_the_template_reaches_any_field_and_takes_none_of_ours() -> None:
    template = {
        "metadata": {"name": "other", "labels": {"team": "a", "component": "x"}, "annotations": {"b": "c"}},
        "spec": {
            "priorityClassName": "builds",
            "restartPolicy": "Always",
            "enableServiceLinks": None,
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": "builder",
                    "env": [{"name": "B", "value": "2"}],
                    "resources": {"limits": {"cpu": "2"}},
                },
                {"name": "helper", "image": "helper:1"},
            ],
        },
    }
    built = made(KubernetesBuildOptions(extra_envs={"A": "1"}, pod_template=template))
    assert built["metadata"]["name"] == PLAN.build
    assert built["metadata"]["labels"] == {"team": "a", "component": "binderhub-build", "name": PLAN.build}
    assert built["metadata"]["annotations"]["b"] == "c"
    spec = built["spec"]
    assert spec["priorityClassName"] == "builds"
    assert spec["restartPolicy"] == "Never"
    assert "enableServiceLinks" not in spec
    assert [toleration["key"] for toleration in spec["tolerations"]][-1] == "gpu"
    assert len(spec["tolerations"]) == 3
    builder, helper = spec["containers"]
    assert [entry["name"] for entry in builder["env"]] == ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "A", "B"]
    assert builder["resources"] == {"limits": {"cpu": "2"}}
    assert builder["args"]
    assert helper == {"name": "helper", "image": "helper:1"}


def test_credentials_come_from_the_registry_else_the_options() -> None:
    own = RegistryLogin("r.example", "ours", Secret("our-pass-word"))
    options = KubernetesBuildOptions(registry_credentials=own, git_credentials=Secret("username=x"))
    login = Secret(json.dumps({"registry": "r.example", "username": "theirs", "password": "their-pass-word"}))
    assert set(credentials(PLAN, login, options)) == {"config.json", "git-credentials", "gitconfig"}
    assert credentials(PLAN, login, options)["config.json"] != credentials(PLAN, None, options)["config.json"]
    assert credentials(PLAN, login, KubernetesBuildOptions(use_registry=False)) == {}


def test_binderhubs_options_reach_the_pod() -> None:
    sets = [
        "BinderHub.build_image=r2d:old", "BinderHub.build_docker_host=unix:///run/dind/docker.sock",
        "BinderHub.build_node_selector={pool: builds}", "BinderHub.build_memory_limit=2G",
        "BuildExecutor.appendix=RUN true", "KubernetesCleaner.max_age=3600", "BinderHub.push_secret=mine",
        "KubernetesBuildExecutor.extra_envs={CONTAINER_HOST: unix:///x}",
    ]  # fmt: skip
    config = load(environ={"BUILD_NAMESPACE": "builds"}, sets=sets)
    options = config.sections.fill(KubernetesBuildOptions, KubernetesBuilder.sections)
    assert (options.namespace, options.max_age, options.appendix) == ("builds", 3600.0, "RUN true")
    spec = made(options)["spec"]
    assert spec["containers"][0]["image"] == "r2d:old"
    assert spec["volumes"][0]["hostPath"]["path"] == "/run/dind/docker.sock"
    assert spec["volumes"][1]["secret"]["secretName"] == "mine"
    assert spec["nodeSelector"] == {"pool": "builds"}
    assert spec["containers"][0]["resources"]["limits"]["memory"] == str(2 * 1024**3)


# -- sticky builds -------------------------------------------------------------------------------------------

nodes = st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))


@given(nodes, st.text())
def test_nodes_are_ranked_as_binderhub_ranks_them(names: set[str], key: str) -> None:
    def score(node: str) -> int:
        return int.from_bytes(hashlib.blake2b(b"-".join([key.encode(), node.encode()]), digest_size=8).digest(), "big")

    assert rendezvous(names, key) == sorted(names, key=score, reverse=True)


@given(nodes, st.text(), st.data())
def test_a_node_that_goes_moves_only_its_own(names: set[str], key: str, data: st.DataObject) -> None:
    if not names:
        return
    gone = data.draw(st.sampled_from(sorted(names)))
    assert rendezvous(names - {gone}, key) == [node for node in rendezvous(names, key) if node != gone]


@pytest.mark.parametrize(("names", "kind"), [([], "podAntiAffinity"), (["node-1", "node-2"], "nodeAffinity")])
def test_no_node_is_no_crash(names: list[str], kind: str) -> None:
    affinity = made(KubernetesBuildOptions(sticky_builds=True), nodes=names)["spec"]["affinity"]
    assert list(affinity) == [kind]


# -- merging -------------------------------------------------------------------------------------------------

plain = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), plain, max_size=4)


@given(objects, objects)
def test_what_is_merged_in_wins_and_nothing_else_is_lost(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = json.dumps([base, over])
    result = merged(base, over)
    assert json.dumps([base, over]) == before
    assert set(result) == {*base, *over}
    for key, value in over.items():
        if not isinstance(value, Mapping | list):
            assert result[key] == value
    assert merged(base, {}) == base
    assert merged({}, over) == over


def test_null_within_an_option_is_left_out() -> None:
    options = KubernetesBuildOptions(
        resources={"limits": {"cpu": None, "memory": "1Gi"}}, security_context={"runAsUser": None}
    )
    [container] = pod(PLAN, options, ["repo2docker"], "a", "p")["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert container["securityContext"] == {}
