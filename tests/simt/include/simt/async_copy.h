// SPDX-License-Identifier: Apache-2.0
//
// cp.async: copies from global to shared memory that land between issue and the matching wait.
#pragma once

namespace simt {

void async_copy(void* shared, const void* global, size_t size, size_t zero_fill, const char* file,
                int line);
void async_commit();
void async_wait(size_t groups_in_flight);

inline void pipeline_memcpy_async(const char* file, int line, void* shared, const void* global,
                                  size_t size, size_t zero_fill = 0) {
  async_copy(shared, global, size, zero_fill, file, line);
}

}  // namespace simt

#define __pipeline_memcpy_async(...) ::simt::pipeline_memcpy_async(__FILE__, __LINE__, __VA_ARGS__)

inline void __pipeline_commit() { simt::async_commit(); }
inline void __pipeline_wait_prior(size_t groups_in_flight) { simt::async_wait(groups_in_flight); }
