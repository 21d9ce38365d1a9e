"""The manifests: right for every supported Kubernetes, and as the chart promises."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from realparts.helm import Chart, Rendered
from ringbinder_builders._kubernetes_doctor import RIGHTS

COMPLETE = "config.BinderHub.hub_url=http://192.0.2.10"
VERSIONS = ("1.25", "1.37")
"""The oldest and the newest Kubernetes that the manifests are held against."""

EVERYTHING = [
    COMPLETE,
    "replicas=3",
    'plugins=["ringbinder-sink-x==1.0"]',
    "ingress.enabled=true",
    'ingress.hosts=["b.example"]',
    'ingress.tls=[{"secretName": "cert", "hosts": ["b.example"]}]',
    "networkPolicy.enabled=true",
    'networkPolicy.ingress.bannedIps={"a": ["192.0.2.0/24", "198.51.100.7"]}',
    'networkPolicy.egress.bannedIps={"b": "2001:db8::1"}',
    'extraFiles={"a": {"mountPath": "/etc/binderhub/python/a.py", "stringData": "x = 1", "mode": 420}}',
    'extraEnv={"A": "1", "B": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}}',
    'image.pullSecrets=["one", {"name": "two"}]',
    "config.BinderHub.auth_enabled=true",
]


@pytest.mark.parametrize(("version", "builder"), list(itertools.product(VERSIONS, ["dind", "pink", "host"])))
@pytest.mark.parametrize("sets", [[COMPLETE], EVERYTHING], ids=["plain", "everything"])
def test_every_manifest_is_right(version: str, builder: str, sets: list[str], chart: Chart) -> None:
    made = chart.render(sets=[*sets, f"imageBuilderType={builder}"], kube=version)
    for manifest in made.manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_helm_finds_nothing_to_complain_of(chart: Chart) -> None:
    reported = chart.run("lint", "--strict", str(chart.folder), "--set", COMPLETE)
    assert "1 chart(s) linted, 0 chart(s) failed" in reported
    assert "[WARNING]" not in reported


def test_a_pod_may_do_little(chart: Chart) -> None:
    made = chart.render(sets=EVERYTHING)
    assert made.pod["securityContext"]["runAsNonRoot"] is True
    for container in (*made.pod["containers"], *made.pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_probes_report_starting_from_broken(chart: Chart) -> None:
    sets = ["config.BinderHub.base_url=binder", "deployment.readinessProbe.httpGet.host=127.0.0.1"]
    container = chart.render(sets=[*sets, "deployment.livenessProbe.enabled=false"]).container
    assert container["startupProbe"]["httpGet"] == {"path": "/binder/versions", "port": "binder"}
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 60
    assert container["readinessProbe"]["httpGet"]["host"] == "127.0.0.1"
    assert "enabled" not in container["readinessProbe"]
    assert "livenessProbe" not in container


def test_a_pod_that_ends_has_time_for_launches(chart: Chart, tmp_path: Path) -> None:
    made = chart.render(sets=["deployment.drainSeconds=300", "deployment.leaveSeconds=10"])
    assert made.pod["terminationGracePeriodSeconds"] == 370
    assert "drain_time: 300" in made.files(tmp_path)[0].read_text()


def test_a_pod_that_ends_waits_for_the_proxies_in_front_of_it(chart: Chart) -> None:
    sleeping = {"exec": {"command": ["sleep", "5"]}}
    assert chart.render().container["lifecycle"] == {"preStop": sleeping}
    after = {"exec": {"command": ["true"]}}
    both = chart.render(sets=['lifecycle.postStart.exec.command=["true"]']).container["lifecycle"]
    assert both == {"postStart": after, "preStop": sleeping}
    own = chart.render(sets=["lifecycle.preStop.httpGet.path=/x", "lifecycle.preStop.httpGet.port=1"])
    assert own.container["lifecycle"] == {"preStop": {"httpGet": {"path": "/x", "port": 1}}}
    assert "lifecycle" not in chart.render(sets=["deployment.leaveSeconds=0"]).container


def test_the_connections_of_a_client_to_one_pod(chart: Chart) -> None:
    assert "sessionAffinity" not in chart.render().get("Service", "binder")["spec"]
    made = chart.render(sets=["service.sessionAffinity=ClientIP"])
    assert made.get("Service", "binder")["spec"]["sessionAffinity"] == "ClientIP"


def _checksum(made: Rendered) -> Any:
    return made.get("Deployment", "binder")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]


def test_a_change_of_the_configuration_restarts_the_pods(chart: Chart) -> None:
    changes = [
        [],
        [COMPLETE],
        ["registry.password=x"],
        ["imageBuilderType=pink"],
        ['plugins=["a"]'],
        ['extraFiles={"a": {"mountPath": "/a", "stringData": "x"}}'],
    ]
    sums = [_checksum(chart.render(sets=sets)) for sets in changes]
    assert len(set(sums)) == len(changes)
    assert _checksum(chart.render(sets=["replicas=3"])) == sums[0], "nothing that the pods read has changed"


def test_replicas_share_the_secret_of_the_build_tokens(chart: Chart) -> None:
    made = chart.render(sets=["replicas=2"])
    assert made.get("Deployment", "binder")["spec"]["replicas"] == 2
    key = made.get("Secret", "binder-secret")["stringData"]["build-token-secret"]
    assert len(bytes.fromhex(key)) == 32
    assert made.environment()["BINDERHUB_BUILD_TOKEN_SECRET"]["secretKeyRef"] == {
        "name": "binder-secret",
        "key": "build-token-secret",
    }


def test_plugins_are_installed_before_anything_looks_at_them(chart: Chart) -> None:
    made = chart.render(
        sets=['plugins=["ringbinder-x==1.0", "other>=2"]', 'initContainers=[{"name": "own", "image": "i"}]']
    )
    own, plugins, check = made.pod["initContainers"]
    assert (own["name"], plugins["name"], check["name"]) == ("own", "plugins", "config-check")
    assert plugins["command"][-2:] == ["ringbinder-x==1.0", "other>=2"]
    assert made.environment()["PYTHONPATH"] == "/etc/binderhub/python:/opt/plugins"
    assert check["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_role_allows_exactly_what_is_used(chart: Chart) -> None:
    rules = chart.render().get("Role", "binderhub")["rules"]
    allowed = {
        (verb, resource, tuple(rule.get("resourceNames", ())))
        for rule in rules
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    assert all(rule["apiGroups"] == [""] for rule in rules)
    of_the_doctor = ("get", "secrets", ("binder-build-docker-config",))
    assert allowed == {(right.verb, right.resource, ()) for right in RIGHTS} | {of_the_doctor}


def test_files_of_an_operator(chart: Chart) -> None:
    files: dict[str, dict[str, Any]] = {
        "page": {"mountPath": "/etc/binderhub/templates/page.html", "stringData": "{% extends 'x' %}"},
        "settings": {"mountPath": "/etc/own/settings.json", "data": {"a": [1]}, "mode": 256},
        "logo": {"mountPath": "/etc/own/logo.png", "binaryData": base64.b64encode(b"\x89PNG").decode()},
    }
    made = chart.render(sets=[f"extraFiles={json.dumps(files)}"])
    secret = made.get("Secret", "binder-secret")
    assert secret["stringData"]["page"] == "{% extends 'x' %}"
    assert json.loads(secret["stringData"]["settings"]) == {"a": [1]}
    assert base64.b64decode(secret["data"]["logo"]) == b"\x89PNG"
    [volume] = [one for one in made.pod["volumes"] if one["name"] == "files"]
    assert {"key": "settings", "path": "settings", "mode": 256} in volume["secret"]["items"]
    mounts = [one for one in made.container["volumeMounts"] if one["name"] == "files"]
    assert {one["mountPath"] for one in mounts} == {file["mountPath"] for file in files.values()}


def test_the_environment_of_an_operator_in_either_form(chart: Chart) -> None:
    mapping = chart.render(
        sets=['extraEnv={"A": 1, "B": {"value": "b"}, "C": {"name": "D", "value": "d"}}']
    ).environment()
    assert (mapping["A"], mapping["B"], mapping["D"]) == ("1", "b", "d")
    listed = chart.render(sets=['extraEnv=[{"name": "A", "value": "1"}]']).environment()
    assert listed["A"] == "1"


def test_who_signs_in_at_the_hub(chart: Chart) -> None:
    sets = [
        "config.BinderHub.auth_enabled=true",
        "jupyterhub.hub.baseUrl=/jupyter",
        "jupyterhub.hub.allowNamedServers=true",
        "jupyterhub.hub.services.binder.oauth_redirect_uri=http://b.example/oauth_callback",
    ]
    environment = chart.render(sets=sets).environment()
    assert environment["JUPYTERHUB_API_URL"] == "http://hub:8081/jupyter/hub/api"
    assert environment["JUPYTERHUB_OAUTH_CALLBACK_URL"] == "http://b.example/oauth_callback"
    assert environment["JUPYTERHUB_ALLOW_NAMED_SERVERS"] == "true"
    assert "JUPYTERHUB_CLIENT_ID" not in chart.render().environment()


def test_a_hub_that_is_elsewhere(chart: Chart, tmp_path: Path) -> None:
    made = chart.render(sets=["jupyterhub.enabled=false", COMPLETE])
    assert ("Secret", "hub") not in made.names()
    assert "JUPYTERHUB_API_TOKEN" not in made.environment()
    assert "hub_url_local" not in made.files(tmp_path)[0].read_text()


def test_the_builder_types(chart: Chart, tmp_path: Path) -> None:
    for builder, socket in (
        ("dind", "/var/run/dind/docker.sock"),
        ("pink", "/var/run/pink/podman.sock"),
        ("host", "/var/run/docker.sock"),
    ):
        made = chart.render(sets=[f"imageBuilderType={builder}"])
        assert f'docker_host: "{socket}"' in made.files(tmp_path)[0].read_text()
        daemons = {name for kind, name in made.names() if kind == "DaemonSet"}
        assert daemons == {"binder-image-cleaner"} | ({f"binder-{builder}"} if builder != "host" else set())
        [cleaner] = made.get("DaemonSet", "binder-image-cleaner")["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one.get("value") for one in cleaner["env"]}
        assert environment["DOCKER_HOST"] == f"unix:///sockets/{Path(socket).name}"
    alone = chart.render(sets=["imageCleaner.cordon=false"])
    assert not {kind for kind, _ in alone.names()} & {"ClusterRole", "ClusterRoleBinding"}


def test_disruption_budget_has_one_rule(chart: Chart) -> None:
    assert chart.render().get("PodDisruptionBudget", "binderhub")["spec"]["maxUnavailable"] == 1
    spec = chart.render(sets=["pdb.minAvailable=1"]).get("PodDisruptionBudget", "binderhub")["spec"]
    assert (spec["minAvailable"], "maxUnavailable" in spec) == (1, False)
    assert ("PodDisruptionBudget", "binderhub") not in chart.render(sets=["pdb.enabled=false"]).names()


def test_a_route_of_the_gateway(chart: Chart) -> None:
    sets = [
        "httpRoute.enabled=true",
        'httpRoute.parentRefs=[{"name": "gate"}]',
        'httpRoute.hostnames=["b.example"]',
    ]
    spec = chart.render(sets=sets).get("HTTPRoute", "binderhub")["spec"]
    assert (spec["parentRefs"], spec["hostnames"]) == ([{"name": "gate"}], ["b.example"])
    [rule] = spec["rules"]
    assert rule["backendRefs"] == [{"name": "binder", "port": 80}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


def test_network_policies(chart: Chart) -> None:
    made = chart.render(sets=EVERYTHING)
    [rule] = made.get("NetworkPolicy", "binder")["spec"]["ingress"]
    [source] = rule["from"]
    assert source["ipBlock"]["except"] == ["192.0.2.0/24", "198.51.100.7/32"]
    builds = made.get("NetworkPolicy", "binder-builds")["spec"]
    assert builds["ingress"] == []
    [selected] = builds["podSelector"]["matchExpressions"]
    engine = made.get("DaemonSet", "binder-dind")["spec"]["template"]
    assert selected == {"key": "component", "operator": "In", "values": ["binderhub-build", "image-builder"]}
    assert engine["metadata"]["labels"]["component"] in selected["values"]
    assert "hostNetwork" not in engine["spec"]
    assert [port["port"] for port in builds["egress"][1]["ports"]] == [80, 443, 9418, 22]
    assert builds["egress"][1]["to"][0]["ipBlock"]["except"] == [
        "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "2001:db8::1/128",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("registry.url=https://registry.example:5000", [5000]),
        ("registry.url=https://registry.example/v2", []),
        ("config.BinderHub.image_prefix=registry.example:5001/binder-", [5001]),
        ("config.BinderHub.image_prefix=quay.io/me/binder-", []),
    ],
)
def test_engines_reach_the_port_of_the_registry(chart: Chart, value: str, more: list[int]) -> None:
    made = chart.render(sets=["networkPolicy.enabled=true", value])
    ports = made.get("NetworkPolicy", "binder-builds")["spec"]["egress"][1]["ports"]
    assert [port["port"] for port in ports] == [80, 443, 9418, 22, *more]


def test_any_field_of_the_pod_can_be_set(chart: Chart) -> None:
    sets = ["extraPodSpec.hostNetwork=true", "extraPodSpec.securityContext.runAsUser=2000"]
    made = chart.render(sets=sets)
    pod = made.pod
    assert (pod["hostNetwork"], pod["securityContext"]["runAsUser"]) == (True, 2000)
    assert pod["securityContext"]["runAsNonRoot"] is True
    # Two pods cannot have one port of a node.
    assert made.get("Deployment", "binder")["spec"]["strategy"] == {"type": "Recreate"}
    several = chart.render(sets=[*sets, "replicas=2"]).get("Deployment", "binder")["spec"]["strategy"]
    assert several["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
