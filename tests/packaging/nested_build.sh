#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Configures, builds and tests the tree once more, cross-compiled.
#
#   nested_build.sh SOURCE BUILD LABELS JOBS CMAKE_ARGUMENT...
set -euo pipefail
source=$1 build=$2 labels=$3 jobs=$4
shift 4
((${EXEUNT_JOBS:-$jobs} >= jobs)) || jobs=$EXEUNT_JOBS
cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DEXN_CUDA=OFF -DEXN_SUITE=quick -DEXN_JNI_SOURCES= "$@"
cmake --build "$build" --parallel "$jobs"
ctest --test-dir "$build" --output-on-failure --no-tests=error -L "$labels" --parallel "$jobs"
