"""Values as they stand in other people's files: root beside our pods' rules, null, an image of BinderHub's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from realparts.helm import Chart, HelmError, Rendered
from ringbinder.config.loading import load

ROOT = {"runAsUser": 0}


def render(chart: Chart, folder: Path, values: Mapping[str, Any]) -> Rendered:
    file = folder / "values-of-others.yaml"
    whole = {"config": {"BinderHub": {"hub_url": "https://hub.example"}}, **values}
    file.write_text(yaml.safe_dump(whole))
    return chart.render(file)


def test_init_container_as_root_may_run(chart: Chart, tmp_path: Path) -> None:
    contexts = [ROOT, {**ROOT, "runAsNonRoot": True}, {"runAsUser": 1000650000}, None]
    containers = [
        {"name": f"n{number}", "image": "x", **({"securityContext": context} if context else {})}
        for number, context in enumerate(contexts)
    ]
    pod = render(chart, tmp_path, {"initContainers": containers}).pod
    found = {one["name"]: one.get("securityContext") for one in pod["initContainers"]}
    assert [found[f"n{number}"] for number in range(4)] == [{**ROOT, "runAsNonRoot": False}, *contexts[1:]]
    assert pod["securityContext"]["runAsNonRoot"]
    assert "runAsNonRoot" not in found["config-check"]


def test_pod_of_the_operators_as_root_may_run(chart: Chart, tmp_path: Path) -> None:
    pod = render(chart, tmp_path, {"extraPodSpec": {"securityContext": ROOT}}).pod
    assert pod["securityContext"]["runAsNonRoot"] is False
    sidecar = {"name": "s", "image": "x", "securityContext": ROOT}
    pod = render(chart, tmp_path, {"extraPodSpec": {"initContainers": [sidecar]}}).pod
    assert pod["initContainers"][-1] == {**sidecar, "securityContext": {**ROOT, "runAsNonRoot": False}}


def test_lists_of_an_extra_pod_spec_come_after_ours(chart: Chart, tmp_path: Path) -> None:
    spread = [{"topologyKey": "zone", "maxSkew": 1}]
    more: dict[str, list[Any]] = {
        "initContainers": [{"name": "mine", "image": "x"}],
        "containers": [{"name": "sidecar", "image": "x"}],
        "volumes": [{"name": "mine", "emptyDir": {}}],
        "topologySpreadConstraints": spread,
        "tolerations": [{"key": "b", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "mine"}],
        "hostAliases": [{"ip": "192.0.2.1"}],
    }
    values = {
        "image": {"pullSecrets": ["ours"]},
        "initContainers": [{"name": "first", "image": "x"}],
        "plugins": ["some-plugin"],
        "extraVolumes": [{"name": "second", "emptyDir": {}}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
    }
    ours = render(chart, tmp_path, values).pod
    pod = render(chart, tmp_path, {**values, "extraPodSpec": more}).pod
    assert {key: pod[key] for key in more} == {key: [*ours.get(key, []), *entries] for key, entries in more.items()}
    assert len(ours["initContainers"]) == 3
    dropped = render(chart, tmp_path, {"extraPodSpec": {"topologySpreadConstraints": None, "volumes": []}}).pod
    assert "topologySpreadConstraints" not in dropped
    assert dropped["volumes"] == ours["volumes"][:-1]


def test_entry_of_our_name_takes_its_place(chart: Chart, tmp_path: Path) -> None:
    work = {"name": "work", "persistentVolumeClaim": {"claimName": "binder"}}
    spread = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
    extra = {"volumes": [work], "topologySpreadConstraints": [spread]}
    pod = render(chart, tmp_path, {"extraPodSpec": extra}).pod
    assert [volume["name"] for volume in pod["volumes"]] == ["config", "docker-config", "work"]
    assert pod["volumes"][-1] == work
    assert pod["topologySpreadConstraints"] == [spread]


@pytest.mark.parametrize("kind", ["initContainers", "extraContainers"])
def test_hubs_container_as_root_is_refused(kind: str, chart: Chart, tmp_path: Path) -> None:
    def values(**context: Any) -> dict[str, Any]:
        containers = [{"name": "chown", "image": "x", "securityContext": context}]
        return {"jupyterhub": {"hub": {"podSecurityContext": {"runAsNonRoot": True}, kind: containers}}}

    with pytest.raises(HelmError, match=rf"jupyterhub\.hub\.{kind}: the container chown .*runAsNonRoot: false"):
        render(chart, tmp_path, values(runAsUser=0))
    render(chart, tmp_path, values(runAsUser=0, runAsNonRoot=False))
    render(chart, tmp_path, values(runAsUser=1000))


@pytest.mark.parametrize(
    "name", ["quay.io/jupyterhub/k8s-binderhub", "jupyterhub/k8s-binderhub", "r.example:5000/binderhub"]
)
def test_image_of_binderhub_is_refused(name: str, chart: Chart, tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=rf"image\.name: {name} holds BinderHub"):
        render(chart, tmp_path, {"image": {"name": name}})
    render(chart, tmp_path, {"image": {"name": "r.example/ringbinder"}})


def test_null_in_a_mapping_drops_a_default(chart: Chart, tmp_path: Path) -> None:
    nulls = {"dropped": None, "kept": "here"}
    made = render(
        chart,
        tmp_path,
        {
            "nodeSelector": nulls,
            "deployment": {"labels": nulls},
            "podAnnotations": nulls,
            "service": {"labels": nulls, "annotations": {**nulls, "prometheus.io/scrape": None}},
            "ingress": {"enabled": True, "annotations": nulls},
            "httpRoute": {"enabled": True, "labels": nulls, "annotations": nulls},
            "networkPolicy": {"enabled": True, "ingress": {"bannedIps": {"x": None, "y": ["192.0.2.1"]}}},
            "resources": {"limits": {"cpu": None, "memory": "1Gi"}},
            "dind": {"resources": {"limits": {"cpu": None, "memory": "1Gi"}}},
            "extraEnv": nulls,
            "extraFiles": {"dropped": None, "kept": {"mountPath": "/kept", "stringData": "x"}},
            "jupyterhub": {"custom": None},
            "config": {
                "BinderHub": {"hub_url": "https://hub.example", "image_prefix": None},
                "KubernetesBuildExecutor": {"node_selector": nulls, "resources": {"limits": {"cpu": None}}},
            },
        },
    )
    assert "dropped" not in made.text.replace("dropped: null", "")  # which stands in Ringbinder's configuration
    assert (made.text.count("<nil>"), made.pod["nodeSelector"]) == (0, {"kept": "here"})
    assert made.container["resources"]["limits"] == {"memory": "1Gi"}
    assert made.environment()["kept"] == "here"
    assert made.get("Service", "binder")["metadata"]["annotations"] == {"kept": "here"}
    dind = made.get("DaemonSet", "binder-dind")["spec"]["template"]["spec"]
    assert dind["nodeSelector"] == {"kept": "here"}
    assert dind["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    [rule] = made.get("NetworkPolicy", "binder")["spec"]["ingress"]
    assert rule["from"][0]["ipBlock"]["except"] == ["192.0.2.1/32"]
    assert load(made.files(tmp_path), environ={}).binderhub.image_prefix == ""


def test_null_for_a_whole_mapping_drops_it(chart: Chart, tmp_path: Path) -> None:
    names = [
        "nodeSelector",
        "tolerations",
        "resources",
        "registry",
        "extraConfig",
        "plugins",
        "extraEnv",
        "extraFiles",
        "extraVolumes",
        "extraVolumeMounts",
        "extraPodSpec",
        "initContainers",
        "lifecycle",
        "podAnnotations",
        "global",
    ]
    made = render(chart, tmp_path, {**dict.fromkeys(names), "ingress": {"enabled": True, "https": None}})
    assert "<nil>" not in made.text
    with pytest.raises(HelmError, match="rbac is required"):
        render(chart, tmp_path, {"rbac": None})


def test_mapping_among_annotations_is_text(chart: Chart, tmp_path: Path) -> None:
    """BinderHub's documentation has `https` there; its chart writes it as text."""
    annotations = {"https": {"enabled": True, "type": "nginx"}, "kubernetes.io/tls-acme": True}
    made = render(chart, tmp_path, {"ingress": {"enabled": True, "annotations": annotations}})
    found = made.get("Ingress", "binderhub")["metadata"]["annotations"]
    assert (found["kubernetes.io/tls-acme"], type(found["https"])) == ("true", str)
