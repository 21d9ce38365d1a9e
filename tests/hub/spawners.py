# mypy: ignore-errors
"""Run with a hub's own Python: starts servers with BinderSpawnerMixin before real spawner classes, without a hub.

    python spawners.py FOLDER < cases

FOLDER holds `spawner.py` and `light_server.py`; the cluster is the one of KUBECONFIG. A case is the class,
`user_options` and the hub's configuration; the answer to each is the pod, what the engine was asked for, or the
process, or how the spawner has refused. What listens in place of a pod or a container is a socket of this program's.
"""

import asyncio
import getpass
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import psutil
from dockerspawner import DockerSpawner
from jupyterhub import orm
from jupyterhub.objects import Hub, Server
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from jupyterhub.user import User
from kubespawner import KubeSpawner
from tornado.web import HTTPError
from traitlets.config import Config

folder = sys.argv[1]
sys.path.insert(0, folder)
from spawner import BinderSpawnerMixin  # noqa: E402


class Engine(BaseHTTPRequestHandler):
    """As much of a container engine as DockerSpawner asks; every image is there, and containers run for ever."""

    created = None

    def do_GET(self):
        path = self.path.partition("?")[0]
        port = {"HostIp": "127.0.0.1", "HostPort": str(engine.server_port)}
        if path == "/version":
            self.answer(200, {"ApiVersion": "1.43"})
        elif "/images/" in path:
            self.answer(200, {"Config": {"Cmd": ["what the image starts"]}})
        elif Engine.created and path.endswith("/containers/made/json"):
            state = {"Running": True, "Paused": False, "ExitCode": 0}
            self.answer(200, {"Id": "made", "State": state, "NetworkSettings": {"Ports": {"8888/tcp": [port]}}})
        else:
            self.answer(404, {"message": "no such container"})

    def do_POST(self):
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.endswith("/containers/create"):
            Engine.created = json.loads(body)
            self.answer(201, {"Id": "made", "Warnings": []})
        else:
            self.answer(204)

    def answer(self, status, content=None):
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


CLASSES = {
    "kube": KubeSpawner,
    "docker": DockerSpawner,
    "simple": SimpleLocalProcessSpawner,
    "local": LocalProcessSpawner,
}


def prepared(case):
    """A spawner as a hub has it when it starts a server."""
    cls = type("BinderSpawner", (BinderSpawnerMixin, CLASSES[case["class"]]), {})
    name = getpass.getuser() if case["class"] == "local" else "some-course-k2v5r7x3m4q6"
    db = orm.new_session_factory("sqlite://")()
    user = orm.User(name=name)
    server = orm.Server(base_url=f"/user/{name}/")
    db.add_all([user, server, orm.Spawner(name="", user=user)])
    db.commit()
    settings = {
        "config": Config(case["config"]),
        "spawner_class": cls,
        "base_url": "/",
        "hub": Hub(base_url="/hub/", ip="127.0.0.1", port=8081, public_host="https://hub.example"),
    }
    made = User(user, settings)._new_spawner("")
    made.server = Server(orm_server=server)
    made.user_options = case["options"]
    made.api_token = "token-of-the-hub"
    if case["class"] == "kube" and "port" not in case["config"]["KubeSpawner"]:
        made.port = engine.server_port
    return made


async def outcome(case):
    Engine.created = None
    spawner = prepared(case)
    try:
        address = await spawner.start()
    except HTTPError as error:
        return {"refused": error.status_code, "why": error.log_message, "asked": Engine.created}
    if case["class"] == "docker":
        return {"container": Engine.created, "address": list(address)}
    if case["class"] == "kube":
        pod = spawner.pod_reflector.pods[f"{spawner.namespace}/{spawner.pod_name}"]
        await spawner.stop(now=True)
        return {"pod": pod, "address": address}
    try:
        return {"process": process_of(spawner)}
    finally:
        await spawner.stop(now=True)


def process_of(spawner):
    def status(token):
        url = f"http://127.0.0.1:{spawner.port}/user/{spawner.user.name}/api/status"
        try:
            return urlopen(Request(url, headers={"Authorization": f"token {token}"}), timeout=30).status
        except OSError as error:
            return error.code

    return {
        "argv": spawner.proc.args,
        "env": psutil.Process(spawner.pid).environ(),
        "with its token": status(spawner.user_options.get("token")),
        "with another": status("another"),
    }


async def main():
    return {name: await outcome(case) for name, case in json.load(sys.stdin).items()}


engine = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
threading.Thread(target=engine.serve_forever, daemon=True).start()
os.environ["DOCKER_HOST"] = f"tcp://127.0.0.1:{engine.server_port}"
print(json.dumps(asyncio.run(main())))
