#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The launcher's answers that need no build: help, wrong commands, missing packages, no network
# for the CUDA compiler. Runs on stand-ins for apt-get, pip and nvcc, and changes nothing
# outside a scratch folder.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/bin" "$WORK/tree"
cp -r "$ROOT/exeunt" "$ROOT/launcher" "$WORK/tree/"

failures=0
# attempt COMMAND...: leaves $status and $out (both streams).
attempt() {
  status=0
  out=$("$@" 2>&1 </dev/null) || status=$?
}
# expect WHAT STATUS TEXT
expect() {
  if [[ $status == "$2" && $out == *"$3"* ]]; then
    echo "ok    $1"
  else
    echo "WRONG $1: status $status, not $2, or no '$3' in: $out"
    failures=$((failures + 1))
  fi
}

for file in "$ROOT/exeunt" "$ROOT/.ci/run" "$ROOT"/launcher/*.sh "$ROOT"/tests/packaging/*.sh; do
  attempt bash -n "$file"
  expect "${file#"$ROOT/"} parses" 0 ''
  if command -v shellcheck >/dev/null; then
    attempt env --chdir="$ROOT" shellcheck -x "$file"
    expect "${file#"$ROOT/"} is clean" 0 ''
  fi
done

attempt "$ROOT/exeunt" help
expect 'help' 0 './exeunt demo'
attempt "$ROOT/exeunt" dance
expect 'unknown command' 2 './exeunt demo'
attempt "$ROOT/exeunt" test --fast
expect 'unknown option' 2 "not '--fast'"
attempt "$ROOT/exeunt" doctor
expect 'doctor' 0 'nvcc'
# shellcheck disable=SC2016  # for grep, not for the shell
attempt grep -qE '^cd "\$\(dirname "\$\{BASH_SOURCE\[0\]\}"\)/\.\." && exec \./exeunt test$' "$ROOT/.ci/run"
expect 'CI runs what the README says' 0 ''

# with_launcher CODE: the launcher's functions in the scratch tree, with
# our stand-ins first on PATH.
with_launcher() {
  attempt env -u CUDA_HOME -u CUDA_PATH PATH="$WORK/bin:$PATH" ROOT="$WORK/tree" bash -c "
    set -euo pipefail
    source \"\$ROOT/launcher/common.sh\"; source \"\$ROOT/launcher/packages.sh\"; source \"\$ROOT/launcher/cuda.sh\"
    system_nvcc() { :; }
    $1"
}
printf '#!/bin/sh\nexit 100\n' >"$WORK/bin/apt-get"
printf '#!/bin/sh\necho "ERROR: no network" >&2\nexit 1\n' >"$WORK/bin/pip3"
chmod +x "$WORK"/bin/*

with_launcher "ensure_packages 'command sh:dash'"
expect 'nothing missing, nothing done' 0 ''
with_launcher "ensure_packages 'command no-such-tool:no-such-package'"
expect 'a missing package that cannot be had' 2 'no-such-package'
with_launcher "have() { [[ \$1 != apt-get ]] && command -v \"\$1\" >/dev/null; }
  ensure_packages 'command no-such-tool:no-such-package'"
expect 'a missing package on another system' 2 'please install'
with_launcher ensure_cuda
expect 'no network for the CUDA compiler' 0 'building for the CPU only'
with_launcher 'uname() { echo Linux riscv64; }; ensure_cuda'
expect 'no CUDA compiler for this machine' 0 'building for the CPU only'
# shellcheck disable=SC2016  # expands inside with_launcher
with_launcher '[[ ! -e $CUDA_TOOLKIT ]]'
expect 'no half toolkit is left' 0 ''
# shellcheck disable=SC2016
with_launcher 'jdk_major() { echo 11; }; missing_packages "${BUILD_NEEDS[@]}"'
expect 'an old JDK is not enough' 0 'openjdk-17-jdk-headless'

exit $((failures > 0))
