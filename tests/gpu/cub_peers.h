/* SPDX-License-Identifier: Apache-2.0 */
/* CUB's ways to the k largest of rows of f32, as indices that ascend: peers of select, in a library
   that the checker opens by name. */
#ifndef EXEUNT_TESTS_GPU_CUB_PEERS_H
#define EXEUNT_TESTS_GPU_CUB_PEERS_H

#include <stdint.h>

#define EXEUNT_PEER_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* The name of way 0, 1, ...; null after the last one. Not each is in every version of CUB. */
EXEUNT_PEER_API const char* exeunt_peer_cub_name(int way);
/* With its memory on the device; null if there is too little, or the way does not take so many rows. */
EXEUNT_PEER_API void* exeunt_peer_cub_make(int way, int64_t rows, int64_t cols, int64_t k);
EXEUNT_PEER_API void exeunt_peer_cub_free(void* peer);
/* Queues it; returns CUDA's error. indices: [rows, k]. */
EXEUNT_PEER_API int exeunt_peer_cub_run(void* peer, const float* scores, int* indices,
                                        void* stream);

#ifdef __cplusplus
}
#endif

#endif
