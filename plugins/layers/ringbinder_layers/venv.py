"""What makes a folder of packages a virtual environment, and its Python a kernel of Jupyter."""

from __future__ import annotations

import json
import posixpath

from .model import Place
from .tar import LayerWriter


def write_venv(place: Place, writer: LayerWriter) -> None:
    """Write the virtual environment without its packages, whose layers come below this one.

    As `python -m venv` makes it, but for the scripts that activate it: in an image, PATH does.
    """
    prefix = place.prefix
    settings = {
        "home": posixpath.dirname(place.interpreter),
        "include-system-site-packages": "false",
        "version": place.python,
        "executable": place.interpreter,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    writer.file(f"{prefix}/pyvenv.cfg", lines.encode())
    writer.link(f"{prefix}/bin/python", place.interpreter)
    writer.link(f"{prefix}/bin/python3", "python")
    writer.link(f"{prefix}/bin/python{place.python}", "python")
    writer.folder(f"{prefix}/include")
    writer.folder(f"{prefix}/lib/python{place.python}/site-packages")
    writer.link(f"{prefix}/lib64", "lib")


def write_kernelspec(place: Place, writer: LayerWriter) -> None:
    """Write a kernel `python3` that is this environment's Python, for an environment that has ipykernel.

    ipykernel's own names `python`, which a server takes for the interpreter that it runs in itself.
    """
    python = f"{place.prefix}/bin/python"
    spec = {
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    writer.file(f"{place.prefix}/share/jupyter/kernels/python3/kernel.json", f"{json.dumps(spec, indent=1)}\n".encode())
