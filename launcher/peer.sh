# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# llama.cpp for `bench --decode`: pinned, hash-checked sources, compiled for this machine, under
# build/peer. Only on request. Sourced by the launcher.

PEER_PINS=$ROOT/launcher/peer-requirements.txt
PEER=$ROOT/build/peer

# install_peer: what compiles it goes first, since pip asks that of the sources about them.
install_peer() {
  local options=(--quiet --no-deps --require-hashes --target "$PEER")
  pip_run install "${options[@]}" --only-binary :all: -r <(grep -v '^llama-cpp' "$PEER_PINS") &&
    CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF' CMAKE_GENERATOR=Ninja \
      CMAKE_BUILD_PARALLEL_LEVEL=${EXEUNT_JOBS:-$(nproc)} PYTHONPATH=$PEER \
      pip_run install "${options[@]}" --no-build-isolation --no-cache-dir \
      --no-binary llama-cpp-python -r <(grep '^llama-cpp' "$PEER_PINS")
}

# Makes sure that the peer is there, or ends with status 3.
ensure_peer() {
  local pins
  pins=$(sha256sum "$PEER_PINS" | cut -d' ' -f1)
  [[ $(cat "$PEER/.pins" 2>/dev/null) != "$pins" ]] || return 0
  say 'fetching llama.cpp (77 MB) into build/peer and compiling it: some minutes, once'
  rm -rf "$PEER"
  mkdir -p "$PEER"
  if ! install_peer >"$ROOT/build/peer.log" 2>&1; then
    rm -rf "$PEER"
    die 3 'llama.cpp could not be fetched or compiled (see build/peer.log)'
  fi
  echo "$pins" >"$PEER/.pins"
}
