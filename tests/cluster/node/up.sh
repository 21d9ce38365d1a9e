#!/usr/bin/env bash
# Starts a whole Kubernetes on this machine, everything on the loopback: etcd, API server, controller manager,
# scheduler, containerd and a kubelet. Images are taken from $REAL_CLUSTER/images. Needs root, and build.sh's programs.
#
# Not there: a cluster DNS, a proxy for ClusterIPs, a route out of the pods' network. Pods with hostNetwork have the
# machine's network, the API server at $API included; others reach what listens on the bridge: on 10.244.77.1, and on
# 10.96.0.1, where pods look for the API server.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
. "$here/env.sh"

# The API server reaches the kubelet by the name of its node.
node=localhost
mkdir -p "$RUN"/{pki,log,pid,etcd,kubelet,ctrd/root,ctrd/state,cni,manifests} "$REAL_CLUSTER/images"
chmod 700 "$RUN/pki"
cd "$RUN"

begin() { # name, command
  local name=$1
  shift
  [ -f "pid/$name" ] && kill -0 "$(cat "pid/$name")" 2>/dev/null && return
  setsid nohup "$@" >"log/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"pid/$name"
}
until_ready() { # what for, command
  local what=$1 tries
  shift
  for ((tries = 0; tries < 240; tries++)); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done
  echo "the $what did not start; its last words:" >&2
  tail -n 20 "log/$what.log" >&2
  exit 1
}

certificate() { # name, subject, alternative names
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" 2>/dev/null \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth' "$3")
}
if [ ! -f pki/tokens.csv ]; then
  cd pki
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout ca.key -out ca.crt -subj /CN=ringbinder-tests 2>/dev/null
  openssl genrsa -out accounts.key 2048 2>/dev/null
  openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
  names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1
  certificate apiserver /CN=kube-apiserver "$names"
  certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:127.0.0.1"
  certificate kubelet-client /O=system:masters/CN=kubelet-client DNS:kubelet-client
  while read -r file user group; do
    token=$(openssl rand -hex 16)
    echo "$token,$user,$file${group:+,$group}" >>tokens.new
    cat >"../$file.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: tests, cluster: {server: $API, certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: $file, user: {token: $token}}]
contexts: [{name: tests, context: {cluster: tests, user: $file}}]
current-context: tests
END
  done <<END
admin admin system:masters
controllers system:kube-controller-manager
scheduler system:kube-scheduler
kubelet system:node:$node system:nodes
END
  mv tokens.new tokens.csv
  cd ..
fi

begin etcd etcd --name tests --data-dir "$RUN/etcd" --unsafe-no-fsync --initial-cluster tests=http://127.0.0.1:12380 \
  --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
  --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380
# An API server that begins with an empty etcd has forgotten nothing, not even version 1; the tests ask for what is forgotten.
put() {
  python3 -c 'import http.client
etcd = http.client.HTTPConnection("127.0.0.1", 12379)
etcd.request("POST", "/v3/kv/put", "{\"key\": \"dGVzdHM=\"}")
assert etcd.getresponse().status == 200'
}
for _ in 1 2 3; do until_ready etcd put; done
begin kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:12379 --bind-address=127.0.0.1 --secure-port=16443 \
  --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/24 --allow-privileged=true \
  --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
  --authorization-mode=Node,RBAC --token-auth-file=pki/tokens.csv \
  --service-account-key-file=pki/accounts.pub --service-account-signing-key-file=pki/accounts.key \
  --service-account-issuer=https://kubernetes.default.svc \
  --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key \
  --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=Hostname
until_ready kube-apiserver kubectl get --raw /readyz
begin kube-controller-manager kube-controller-manager --kubeconfig=controllers.kubeconfig --leader-elect=false \
  --bind-address=127.0.0.1 --secure-port=20257 --port=0 --use-service-account-credentials=true \
  --service-account-private-key-file=pki/accounts.key --root-ca-file=pki/ca.crt \
  --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
  --authentication-kubeconfig=controllers.kubeconfig --authorization-kubeconfig=controllers.kubeconfig \
  --authentication-skip-lookup=true
begin kube-scheduler kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false \
  --bind-address=127.0.0.1 --secure-port=20259 --port=0 --authentication-skip-lookup=true
until_ready kube-controller-manager kubectl --namespace default get serviceaccount default

cat >containerd.toml <<END
version = 2
root = "$RUN/ctrd/root"
state = "$RUN/ctrd/state"
[grpc]
  address = "$RUN/ctrd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
cat >cni/10-tests.conflist <<END
{"cniVersion": "0.4.0", "name": "tests", "plugins": [
  {"type": "bridge", "bridge": "ringbinder0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni-ipam", "ranges": [[{"subnet": "10.244.77.0/24"}]],
            "routes": [{"dst": "10.96.0.0/24"}]}},
  {"type": "loopback"}]}
END
cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 20250
healthzBindAddress: 127.0.0.1
healthzPort: 20248
readOnlyPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $RUN/pki/kubelet.crt
tlsPrivateKeyFile: $RUN/pki/kubelet.key
staticPodPath: $RUN/manifests
cgroupDriver: cgroupfs
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 200Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
oomScoreAdj: 0
maxPods: 60
serializeImagePulls: false
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
END
# As the plugin "bridge" would make it for the first pod: tests may listen there before that.
if ! ip link show ringbinder0 >/dev/null 2>&1; then
  ip link add ringbinder0 type bridge
  ip address add 10.244.77.1/24 dev ringbinder0
  ip address add 10.96.0.1/32 dev ringbinder0
  ip link set ringbinder0 up
fi
begin containerd containerd --config "$RUN/containerd.toml"
until_ready containerd ctr -a "$RUN/ctrd/containerd.sock" version
for image in "$REAL_CLUSTER"/images/*.tar; do
  [ -f "$image" ] && ctr -a "$RUN/ctrd/containerd.sock" -n k8s.io images import "$image" >/dev/null
done
begin kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" --root-dir="$RUN/kubelet" \
  --container-runtime=remote --container-runtime-endpoint="unix://$RUN/ctrd/containerd.sock" --network-plugin=cni \
  --hostname-override="$node" --cert-dir="$RUN/pki"
until_ready kubelet kubectl wait --for=condition=Ready "node/$node" --timeout=1s
