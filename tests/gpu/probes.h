/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the checker's own, in a library that it opens by name: compiled by nvcc, or into the
   emulated backend. */
#ifndef EXEUNT_TESTS_GPU_PROBES_H
#define EXEUNT_TESTS_GPU_PROBES_H

#include <stdint.h>

#define EXEUNT_PROBE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum { EXEUNT_PROBE_F32, EXEUNT_PROBE_F16, EXEUNT_PROBE_BF16 };

/* Element i becomes bell(word(seed, stream_of_values, i)) * scale of ops/common/tensor.h. */
EXEUNT_PROBE_API int exeunt_probe_fill(void* data, int dtype, int64_t count, uint64_t seed,
                                       uint64_t stream_of_values, float scale, void* stream);
/* Reads all bytes, but for less than one round of all threads. `sink` has space for a word. */
EXEUNT_PROBE_API int exeunt_probe_read(const void* data, uint64_t bytes, void* sink, void* stream);
/* Multiplies and adds in registers; two operations for each. The second: on the tensor cores, bf16
   summed in f32; 0 operations where there are none. */
EXEUNT_PROBE_API int exeunt_probe_fma(int iterations, void* sink, double* operations, void* stream);
EXEUNT_PROBE_API int exeunt_probe_mma(int iterations, void* sink, double* operations, void* stream);
/* A kernel that does nothing, with a grid of `number` blocks. */
EXEUNT_PROBE_API int exeunt_probe_mark(int number, void* stream);

#ifdef __cplusplus
}
#endif

#endif
