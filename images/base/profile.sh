# For login shells, such as the entrypoint's and those of Jupyter's terminals: /etc/profile has set PATH to its own.
PATH="${HOME}/.local/bin:${REPO_DIR:-${HOME}}/.local/bin:${NB_PYTHON_PREFIX}/bin:/srv/jupyter/commands:${PATH}"
if [ -n "${CONDA_PREFIX:-}" ]; then
  # What packages need to be set, such as GDAL_DATA.
  for _script in "${CONDA_PREFIX}"/etc/conda/activate.d/*.sh; do
    if [ -r "${_script}" ]; then . "${_script}"; fi
  done
  unset _script
fi
