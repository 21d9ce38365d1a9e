#!/usr/bin/env bash
# Runs the tests in tests/cluster on the cluster that TEST_KUBECONFIG or KUBECONFIG names; without them, on one that is started on this
# machine (as root, on Debian 12) and ended afterwards. Arguments go to pytest.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
python=${PYTHON:-python3}
root=$(realpath "$here/../../..")

if [ -n "${TEST_KUBECONFIG:=${KUBECONFIG:-}}" ]; then
  export TEST_KUBECONFIG
else
  "$here/build.sh"
  "$here/images.sh"
  . "$here/env.sh"
  trap '"$here/down.sh" --wipe' EXIT
  "$here/up.sh"
  export TEST_KUBECONFIG=$KUBECONFIG TEST_CLUSTER_CONTAINERD=$RUN/ctrd/containerd.sock
fi
cd "$root"
"$python" -m pytest tests/cluster "$@"
