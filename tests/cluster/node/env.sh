# Where a cluster of this machine's own is; sourced by the scripts beside it.
export REAL_CLUSTER=${REAL_CLUSTER:-$HOME/.cache/real-cluster}
export RUN=$REAL_CLUSTER/state
export API=https://127.0.0.1:16443
export PATH=$REAL_CLUSTER/bin:$PATH
export KUBECONFIG=$RUN/admin.kubeconfig
