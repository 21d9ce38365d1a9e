#!/usr/bin/env bash
# Ends the cluster that up.sh has started, by the process ids that it has noted. --wipe also forgets its state.
. "$(dirname "$(realpath "$0")")/env.sh"
cd "$RUN" 2>/dev/null || exit 0

end() {
  [ -f "pid/$1" ] || return 0
  local pid tries
  pid=$(cat "pid/$1")
  kill "$pid" 2>/dev/null
  for ((tries = 0; tries < 40; tries++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
  kill -9 "$pid" 2>/dev/null
  rm -f "pid/$1"
}

if [ -f pid/kubelet ]; then
  kubectl delete daemonsets,deployments,jobs --all --all-namespaces --wait=false >/dev/null 2>&1
  kubectl delete pods --all --all-namespaces --force --grace-period=0 --wait=false >/dev/null 2>&1
  for ((tries = 0; tries < 20; tries++)); do
    [ -z "$(ctr -a "$RUN/ctrd/containerd.sock" -n k8s.io tasks ls -q 2>/dev/null)" ] && break
    sleep 0.5
  done
fi
end kubelet
if [ -f pid/containerd ]; then
  containers() { ctr -a "$RUN/ctrd/containerd.sock" -n k8s.io "$@"; }
  for task in $(containers tasks ls -q); do containers tasks kill --signal KILL "$task"; done
  sleep 1
  for task in $(containers tasks ls -q); do containers tasks rm --force "$task" >/dev/null; done
  for container in $(containers containers ls -q); do containers containers rm "$container"; done
fi
for program in containerd kube-scheduler kube-controller-manager kube-apiserver etcd; do end "$program"; done
grep -oE " $RUN/[^ ]+" /proc/mounts | sort -r | xargs -r -n1 umount -l
ip link delete ringbinder0 2>/dev/null
[ "${1:-}" = --wipe ] && rm -rf "$RUN"
exit 0
