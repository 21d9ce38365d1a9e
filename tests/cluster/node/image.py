"""A folder as a container image: `image.py FOLDER NAME FILE.tar COMMAND...`, for `ctr images import`."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def write(folder: Path, name: str, into: Path, command: list[str]) -> None:
    """Writes the archive, in the form that `docker save` has."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        layer.add(folder, arcname=".")
    content = packed.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": [f"PATH={path}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(into, "w") as archive:
        for member, data in (
            (config_name, config),
            (f"{digest}/layer.tar", content),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    folder, name, into, *command = sys.argv[1:]
    write(Path(folder), name, Path(into), command)
