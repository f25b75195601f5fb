#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Configures, builds and tests the tree once more, another way: cross-compiled, or with sanitizers.
#
#   nested_build.sh SOURCE BUILD LABELS CMAKE_ARGUMENT...
set -euo pipefail
source=$1 build=$2 labels=$3
shift 3
cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DEXN_CUDA=OFF -DEXN_QUICK=ON "$@"
cmake --build "$build" --parallel "${EXEUNT_JOBS:-$(nproc)}"
ctest --test-dir "$build" --output-on-failure --no-tests=error -L "$labels" \
  --parallel "${CTEST_PARALLEL_LEVEL:-$(nproc)}"
