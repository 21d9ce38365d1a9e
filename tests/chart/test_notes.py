"""What helm prints after an installation, and what the chart needs of the cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from realparts.helm import Chart, HelmError
from ringbinder_builders._pod_manifest import COMPONENT

COMPLETE = "config.BinderHub.hub_url=http://192.0.2.10"
TEAR_DOWN = Path(__file__).parents[2] / "docs" / "how-to" / "tear-down.md"
LEFT = f"delete pods --selector 'component in ({COMPONENT}, singleuser-server)'"


NOTES = """apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: {{ tpl (.Files.Get "notes.txt") . | quote }}
"""


@pytest.fixture(scope="module")
def with_notes(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart with an object that holds the notes, which helm prints for a cluster alone."""
    copy = Chart(tmp_path_factory.mktemp("notes") / "ringbinder")
    shutil.copytree(chart.folder, copy.folder)
    shutil.move(copy.folder / "templates" / "NOTES.txt", copy.folder / "notes.txt")
    (copy.folder / "templates" / "notes.yaml").write_text(NOTES)
    return copy


def notes(chart: Chart, *sets: str) -> str:
    return str(chart.render(sets=[COMPLETE, *sets]).get("ConfigMap", "notes")["data"]["notes"])


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ((), "http://ADDRESS/ with this EXTERNAL-IP"),
        (("config.BinderHub.base_url=/binder/",), "http://ADDRESS/binder/ with"),
        (("service.type=NodePort",), "http://NODE:PORT/ with"),
        (("service.type=ClusterIP", "config.BinderHub.base_url=b"), "open http://127.0.0.1:8585/b/"),
        (("ingress.enabled=true", 'ingress.hosts=["b.example"]'), "  http://b.example/\n"),
        (
            (
                "ingress.enabled=true",
                'ingress.hosts=["a.example","b.example"]',
                'ingress.tls=[{"hosts":["b.example"]}]',
            ),
            "  http://a.example/\n  https://b.example/\n",
        ),
        (
            ("ingress.enabled=true", 'ingress.hosts=["b.example"]', "ingress.https.enabled=true"),
            "  https://b.example/\n",
        ),
        (("httpRoute.enabled=true", 'httpRoute.hostnames=["g.example"]'), "  http://g.example/  (https://"),
    ],
)
def test_notes_name_the_address(sets: tuple[str, ...], told: str, with_notes: Chart) -> None:
    found = notes(with_notes, *sets)
    assert told in found
    assert ("get service binder" in found) == ("ADDRESS" in told or "NODE" in told)


def test_notes_and_page_name_the_pods_that_helm_leaves(with_notes: Chart) -> None:
    assert LEFT in notes(with_notes)
    assert LEFT in TEAR_DOWN.read_text()


def test_cluster_older_than_the_sub_chart_needs_is_refused(chart: Chart, tmp_path: Path) -> None:
    copy = Chart(tmp_path / "ringbinder")
    shutil.copytree(chart.folder, copy.folder)
    hub = copy.folder / "charts" / "jupyterhub"
    with (hub / "Chart.yaml").open("a") as file:
        file.write('kubeVersion: ">=1.32.0-0"\n')
    copy.run("package", str(hub), "--destination", str(hub.parent))
    shutil.rmtree(hub)
    # Of a sub-chart helm does not check it: this is the template's message.
    with pytest.raises(HelmError, match=r"sub-chart jupyterhub needs Kubernetes >=1\.32\.0-0, .* has v1\.30"):
        copy.render(sets=[COMPLETE], kube="1.30")
    copy.render(sets=[COMPLETE], kube="1.32")
    copy.render(sets=[COMPLETE, "jupyterhub.enabled=false"], kube="1.20")
