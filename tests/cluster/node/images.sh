#!/usr/bin/env bash
# The images that every pod of the tests needs, made of nothing but Debian's packages: pause, which holds a pod's
# network, and a busybox. Into $REAL_CLUSTER/images, from where up.sh takes them.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
. "$here/env.sh"
images=$REAL_CLUSTER/images
mkdir -p "$images"
[ -f "$images/pause.tar" ] && [ -f "$images/busybox.tar" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/pause" "$work/busybox"/{bin,tmp}
cat >"$work/pause.c" <<'END'
#include <signal.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
int main(void) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  for (;;) pause();
}
END
gcc -static -Os -o "$work/pause/pause" "$work/pause.c"
python3 "$here/image.py" "$work/pause" localhost/pause:1 "$images/pause.tar" /pause
install -m 755 "$(command -v busybox)" "$work/busybox/bin/busybox"
for name in sh echo sleep cat ls env id true false; do ln -s busybox "$work/busybox/bin/$name"; done
python3 "$here/image.py" "$work/busybox" localhost/busybox:1 "$images/busybox.tar" /bin/sh
