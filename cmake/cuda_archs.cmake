# SPDX-License-Identifier: Apache-2.0
#
# Which GPUs libexeunt_cuda.so carries code for. Must run before CUDA is enabled: CMake's own
# default (sm_52) is older than anything CUDA 13 can compile for.
#
#   EXN_CUDA_ARCHS=developer   two machine-code targets and PTX; compiles in a third of the time
#   EXN_CUDA_ARCHS=release     every supported GPU without a just-in-time compile at first use
#   EXN_CUDA_ARCHS=<list>      anything CMAKE_CUDA_ARCHITECTURES accepts, e.g. "86-real"
#
# 80   A100                           the oldest we support: cp.async and bf16 arithmetic
# 86   RTX 30xx, A10, A40             80's code runs there too, but has more threads per SM in mind
# 89   RTX 40xx, L4, L40
# 90   H100, H200
# 100  B200 (data-centre Blackwell)
# 120  RTX 50xx, RTX PRO (Blackwell)  code for 100 does not run on 120, nor the other way round
# The -virtual entry is PTX, which the driver compiles for any GPU newer than it.

set(EXN_CUDA_ARCHS developer CACHE STRING
  "GPU targets: developer, release, or a CMAKE_CUDA_ARCHITECTURES list")

if(EXN_CUDA_ARCHS STREQUAL "developer")
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
elseif(EXN_CUDA_ARCHS STREQUAL "release")
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120-real 120-virtual)
else()
  set(CMAKE_CUDA_ARCHITECTURES ${EXN_CUDA_ARCHS})
endif()
