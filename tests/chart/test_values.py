"""What the chart makes of values: the documented ones, those of a large deployment, and those that are gone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from realparts.helm import Chart, HelmError
from ringbinder.config import binderhub as compat
from ringbinder.config.loading import load

DOCUMENTED = Path(__file__).parents[1] / "documented"
COMPLETE = "config.BinderHub.hub_url=http://192.0.2.10"


def documented(name: str) -> list[Path]:
    """The documentation's files for one registry."""
    return sorted(DOCUMENTED.glob(f"*-{name}.yaml"))


@pytest.mark.parametrize(
    ("name", "registry", "host"),
    [
        ("dockerhub", "dockerhub", "https://index.docker.io/v1/"),
        ("gcr", "gcr", "https://gcr.io"),
        ("custom", "oci", "https://myregistry.io"),
        ("auth-config-url", "dockerhub", ""),
    ],
)
def test_the_documentations_files_unchanged(name: str, registry: str, host: str, chart: Chart, tmp_path: Path) -> None:
    made = chart.render(*documented(name))
    config = load(made.files(tmp_path), environ={})
    assert (config.settings.builder, config.settings.registry) == ("kubernetes", registry)
    assert config.settings.launcher == "jupyterhub"
    docker = json.loads(made.get("Secret", "binder-build-docker-config")["stringData"]["config.json"])
    assert list(docker.get("auths", {})) == ([host] if host else [])
    if name == "gcr":
        assert base64.b64decode(docker["auths"][host]["auth"]).startswith(b"_json_key:{")
    names = made.names()
    assert {("Service", "binder"), ("Service", "proxy-public"), ("Deployment", "binder")} <= names


def test_without_a_hub_the_command_that_completes_it_is_named(chart: Chart, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("config: {BinderHub: {banner_message: <b>Ours</b>}}")
    command = "helm upgrade binder &lt;this chart&gt; --namespace binder --reuse-values --set config.BinderHub.hub_url="
    banner = load(chart.render(own).files(tmp_path), environ={}).binderhub.banner_message
    assert command in banner
    assert banner.endswith("<b>Ours</b>")
    whole = load(chart.render(own, sets=[COMPLETE]).files(tmp_path), environ={}).binderhub
    assert (whole.banner_message, whole.hub_url) == ("<b>Ours</b>", "http://192.0.2.10/")
    fake = chart.render(sets=["config.Ringbinder.launcher=fake"])
    assert load(fake.files(tmp_path), environ={}).binderhub.banner_message == ""


def test_values_of_a_large_deployment(chart: Chart, tmp_path: Path) -> None:
    file = Path(__file__).parent / "large-deployment.yaml"
    made = chart.render(file)
    config = load(made.files(tmp_path), environ={})
    assert config.sections.unused() == ()
    assert config.binderhub.allowed_origins == ("*",)
    given = yaml.safe_load(made.get("Secret", "binder-secret")["stringData"]["chart.yaml"])
    assert given["KubernetesBuildExecutor"]["docker_host"] == "/var/run/dind/docker.sock"
    dind = made.get("DaemonSet", "binder-dind")["spec"]["template"]["spec"]
    [engine] = dind["containers"]
    assert engine["image"] == "docker.io/library/docker:27.5.1-dind"
    assert engine["args"][-2:] == ["--max-concurrent-uploads=32", "--mtu=1450"]
    assert dind["nodeSelector"] == {"pool": "builds"}
    assert made.pod["priorityClassName"] == "core"
    assert made.environment()["GOOGLE_APPLICATION_CREDENTIALS"] == "/secrets/account.json"
    assert {"name": "secrets", "mountPath": "/secrets", "readOnly": True} in made.container["volumeMounts"]
    [rule] = made.get("Ingress", "binderhub")["spec"]["rules"]
    assert rule["host"] == "binder.example"
    assert made.get("Ingress", "binderhub")["spec"]["tls"][0]["secretName"] == "kubelego-tls-binder-binder"
    assert made.get("Ingress", "binderhub")["metadata"]["annotations"] == {
        "kubernetes.io/ingress.class": "traefik",
        "kubernetes.io/tls-acme": "true",
    }
    [build_egress] = [rule for rule in made.get("NetworkPolicy", "binder-builds")["spec"]["egress"] if "to" in rule]
    assert [port["port"] for port in build_egress["ports"]] == [80, 443, 9418]
    assert ("DaemonSet", "binder-image-cleaner") in made.names()


@pytest.mark.parametrize("path", compat.GONE_VALUES, ids=".".join)
def test_a_value_that_is_gone_is_answered_with_the_new_name(
    path: tuple[str, ...], chart: Chart, tmp_path: Path
) -> None:
    value: Any = "something"
    for step in reversed(path):
        value = {step: value}
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(value))
    with pytest.raises(HelmError) as caught:
        chart.render(file)
    assert f"{'.'.join(path)}: {compat.GONE_VALUES[path]}" in str(caught.value)


def test_everything_that_cannot_be_used_is_reported_at_once(chart: Chart, tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("""
github: {accessToken: x}
config: {BinderHub: {google_analytics_code: UA-1}}
extraConfig:
  00-off:
  01-eventlog: |
    c.EventLog.handlers_maker = make
  02-hook: |
    async def hook(launcher, *args): ...
    c.Launcher.pre_launch_hook = hook
    c.BinderHub.badge_base_url = lambda handler: "https://b.example"
  03-other: "c.BinderHub.port = 80"
binderhub: {config: {}}
""")
    with pytest.raises(HelmError) as caught:
        chart.render(file)
    reported = str(caught.value)
    assert "6 value(s) that cannot be used" in reported
    assert "github: use config.GitHubRepoProvider" in reported
    assert "config.BinderHub.google_analytics_code: " in reported
    assert "extraConfig.01-eventlog: Python snippets are not run here. Instead, EventLog.handlers_maker: " in reported
    assert "Launcher.pre_launch_hook: " in reported
    assert "BinderHub.badge_base_url: " in reported
    assert "extraFiles puts the module into /etc/binderhub/python" in reported
    assert f"extraConfig.03-other: Python snippets are not run here. Instead, {compat.OTHER_SNIPPETS}" in reported
    assert "alias: binderhub" in reported
    assert "00-off" not in reported


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("config.BinderHub.hub_ur=x", "hub_ur"),
        ("config.GitHubRepoProvider.acess_token=x", "acess_token"),
        ("config.BinderHub.port=many", "port"),
        ("config.Ringbinder.log_format=xml", "log_format"),
        ("replica=2", "replica"),
        ("image.nam=x", "nam"),
        ("imageBuilderType=kaniko", "imageBuilderType"),
    ],
)
def test_the_schema_refuses(setting: str, told: str, chart: Chart) -> None:
    with pytest.raises(HelmError, match=rf"meet the specifications of the schema[\s\S]*{told}"):
        chart.render(sets=[setting])


@pytest.mark.parametrize(
    "setting",
    [
        "config.StrangersProvider.secret_sauce=5",
        "config.BinderHub.build_token_expires_seconds=5m",
        "config.BinderHub.tornado_settings.headers.X=y",
        "config.DataverseProvider={}",
        "config.Ringbinder.log_max_bytes=2G",
        "jupyterhub.hub.anything.at=all",
    ],
)
def test_the_schema_lets_pass(setting: str, chart: Chart) -> None:
    chart.render(sets=[setting, COMPLETE])


def test_a_chart_around_this_one(chart: Chart, tmp_path: Path) -> None:
    """`binderhub: jupyterhub: ...`, as the documentation nests it for a chart with others beside."""
    around = tmp_path / "around"
    around.mkdir()
    (around / "Chart.yaml").write_text(f"""
apiVersion: v2
name: around
version: 1.0.0
dependencies: [{{name: ringbinder, version: ">=0-0", alias: binderhub, repository: "file://{chart.folder}"}}]
""")
    (around / "values.yaml").write_text("""
binderhub:
  config: {BinderHub: {hub_url: "https://hub.example"}}
  jupyterhub: {hub: {services: {binder: {apiToken: abc}}}}
""")
    outer = Chart(around)
    outer.run("dependency", "build", "--skip-refresh", str(around))
    made = outer.render()
    assert load(made.files(tmp_path), environ={}).binderhub.hub_url == "https://hub.example/"
    assert made.get("Secret", "hub")["stringData"]["hub.services.binder.apiToken"] == "abc"


def test_the_hub_has_our_spawner(chart: Chart) -> None:
    values = yaml.safe_load((chart.folder / "values.yaml").read_text())
    snippets = values["jupyterhub"]["hub"]["extraConfig"]
    assert list(snippets) == sorted(snippets), "the hub runs them in the order of their names"
    for name, code in snippets.items():
        compile(code, name, "exec")
    assert "class BinderSpawnerMixin" in snippets["0-binderspawnermixin"]
    assert "c.JupyterHub.spawner_class = BinderSpawner" in snippets["00-binder"]
    assert "c.JupyterHub.authenticator_class = BinderAuthenticator" in snippets["00-binder"]
