#!/usr/bin/env bash
# Builds Kubernetes out of Debian's source package, with Debian's Go and nothing from anywhere else, into
# $REAL_CLUSTER/bin. It takes about 8 minutes on two cores, once: what is there already is left alone.
set -euo pipefail
. "$(dirname "$(realpath "$0")")/env.sh"

programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
bin=$REAL_CLUSTER/bin
mkdir -p "$bin" "$REAL_CLUSTER/images"
exec 9>"$REAL_CLUSTER/.building"
flock 9

missing=()
for program in "${programs[@]}"; do [ -x "$bin/$program" ] || missing+=("cmd/$program"); done
[ "${#missing[@]}" -gt 0 ] || exit 0

packages=(rsync jq make dpkg-dev gcc libc6-dev etcd-server containerd runc containernetworking-plugins busybox-static)
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null

work=$REAL_CLUSTER/scratch
mkdir -p "$work"/{sources,lists/partial,src}
cd "$work"
if [ ! -d src/k/cmd ]; then
  # Its own lists, so that the machine's settings of apt stay as they are.
  sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >sources/src.sources
  apt_source() {
    apt-get -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists" "$@"
  }
  apt_source update -qq
  (cd src && apt_source source --download-only kubernetes >/dev/null && rm -rf k && dpkg-source -x kubernetes_*.dsc k >/dev/null)
fi
if [ ! -d go/usr ]; then
  apt-get download -qq golang-1.19-go golang-1.19-src
  for package in golang-*.deb; do dpkg -x "$package" go; done
fi

cd src/k
mkdir -p .go/src/k8s.io
ln -sfn ../../.. .go/src/k8s.io/kubernetes
export GOROOT=$work/go/usr/lib/go-1.19 GOPATH=$PWD/.go GOPROXY=off GOCACHE=$work/cache CGO_ENABLED=0 GOFLAGS=-p=2 HOME=$work
export PATH=$GOROOT/bin:$PATH SOURCE_DATE_EPOCH=1610496000
export KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=clean
# Tests may run meanwhile; they come first.
nice -n 10 make WHAT="${missing[*]}" >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }
for program in "${missing[@]}"; do install -m 755 "_output/local/bin/linux/amd64/${program#cmd/}" "$bin/"; done
rm -rf "$work"
