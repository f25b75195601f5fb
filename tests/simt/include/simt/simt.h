// SPDX-License-Identifier: Apache-2.0
//
// The CUDA language for a host compiler. Kernel sources reach this header through
// exeunt/cuda/portable.cuh when EXN_SIMT is defined; nothing else includes it.
#pragma once

// The standard headers come first: some of NVIDIA's macros would break them.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "simt/language.h"

#include "simt/warp.h"

#include "simt/atomics.h"

#include "simt/intrinsics.h"

#include "simt/async_copy.h"

#include "simt/launch.h"
