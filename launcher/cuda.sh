# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A CUDA compiler for machines without one: pinned, hash-checked wheels under build/cuda, reached
# through the link build/cuda/toolkit, where CMake looks too. Sourced by the launcher.

CUDA_PINS=$ROOT/launcher/cuda-requirements.txt
CUDA_HEADERS=$ROOT/launcher/cuda-headers.txt
CUDA_TOOLKIT=$ROOT/build/cuda/toolkit

# A toolkit that the machine already has, or nothing.
system_nvcc() {
  local candidate
  for candidate in "${CUDA_HOME:-}/bin/nvcc" "${CUDA_PATH:-}/bin/nvcc" \
    "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
    if [[ -x $candidate ]]; then
      echo "$candidate"
      return
    fi
  done
}

cuda_pins() { cat "$CUDA_PINS" "$CUDA_HEADERS" | sha256sum | cut -d' ' -f1; }

# Lays the wheels out as a toolkit at $1; the compiler looks for lib64 and a shared
# runtime for libcudart.so.
install_cuda_wheels() {
  local folder=$1
  rm -rf "$folder"
  pip_run install --quiet --no-deps --require-hashes --only-binary :all: --target "$folder" \
    -r "$CUDA_PINS" -r "$CUDA_HEADERS" >"$ROOT/build/cuda/pip.log" 2>&1 || return 1
  local home=$folder/nvidia/cu13
  [[ -x $home/bin/nvcc ]] || return 1
  ln -sfn lib "$home/lib64"
  ln -sfn libcudart.so.13 "$home/lib/libcudart.so"
  cuda_pins >"$folder/.pins"
}

# Makes sure that CMake finds a CUDA compiler; says in one sentence why not if that is impossible.
ensure_cuda() {
  local nvcc pins
  nvcc=$(system_nvcc)
  if [[ -n $nvcc ]]; then
    say "CUDA compiler: $nvcc"
    return
  fi
  if [[ $(uname -sm) != 'Linux x86_64' ]]; then
    say "no CUDA compiler here, and none to fetch for $(uname -sm): building for the CPU only"
    return
  fi
  pins=$(cuda_pins)
  local folder=$ROOT/build/cuda/wheels
  mkdir -p "$ROOT/build/cuda"
  if [[ $(cat "$folder/.pins" 2>/dev/null) != "$pins" || ! -x $CUDA_TOOLKIT/bin/nvcc ]]; then
    say 'no CUDA compiler on this machine: fetching a pinned one (about 110 MB) into build/cuda'
    if ! install_cuda_wheels "$folder"; then
      rm -rf "$folder" "$CUDA_TOOLKIT"
      say 'no CUDA compiler could be fetched (see build/cuda/pip.log): building for the CPU only'
      return
    fi
    ln -sfn wheels/nvidia/cu13 "$CUDA_TOOLKIT"
  fi
  say "CUDA compiler: $CUDA_TOOLKIT/bin/nvcc"
}

# The headers alone, some MB: what the emulated device needs.
ensure_cuda_headers() {
  [[ $(uname -sm) == 'Linux x86_64' && -z $(system_nvcc) && ! -x $CUDA_TOOLKIT/bin/nvcc ]] || return 0
  ensure_pinned "$CUDA_HEADERS" "$ROOT/build/cuda/headers" "$ROOT/build/cuda/pip.log" \
    "fetching CUDA's headers into build/cuda" ||
    say 'no CUDA headers could be fetched (see build/cuda/pip.log): the emulated device is left out'
}
