"""Configuration of the Jupyter in a prefix of its own, whose kernels run in the environment of the image."""

# mypy: ignore-errors
import os
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

_PREFIX = Path(os.environ["NB_PYTHON_PREFIX"])
_PYTHONS = ("python", "python3", f"python{sys.version_info.major}.{sys.version_info.minor}")


class EnvironmentKernelSpecs(KernelSpecManager):
    """Kernelspecs whose `python` is the environment's: jupyter_client would take the server's own."""

    def get_kernel_spec(self, kernel_name):
        spec = super().get_kernel_spec(kernel_name)
        if spec.argv and spec.argv[0] in _PYTHONS:
            spec.argv[0] = str(_PREFIX / "bin" / "python")
        return spec


c = get_config()  # noqa: F821 - Jupyter defines it
c.ServerApp.kernel_spec_manager_class = EnvironmentKernelSpecs
c.KernelSpecManager.ensure_native_kernel = False
if "JUPYTERHUB_SERVICE_PREFIX" in os.environ:
    # BinderHub's hub asks `python3` for JupyterLab, which is not in the environment, and starts `jupyter-notebook`.
    c.JupyterNotebookApp.default_url = "/lab"
