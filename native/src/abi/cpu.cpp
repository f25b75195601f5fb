// SPDX-License-Identifier: Apache-2.0
// The CPU's functions of core.h: instruction sets, threads, probes.
#include "cpu/backend.h"

#include "base/status.h"

extern "C" {

const char* exn_cpu_isa(void) { return exn::cpu::isa(); }

const char* exn_cpu_isas(void) { return exn::cpu::isas(); }

exn_status exn_cpu_set_isa(const char* name) {
  if (exn::cpu::use_isa(name)) return EXN_OK;
  return exn::fail(EXN_INVALID_ARGUMENT, "exn_cpu_set_isa: name is %s, but this machine runs %s",
                   name, exn::cpu::isas());
}

int32_t exn_cpu_threads(void) { return exn::cpu::thread_count(); }

exn_status exn_cpu_set_threads(int32_t threads) {
  if (threads < 0 || threads > 256) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_cpu_set_threads: threads is %d, expected 0..256",
                     threads);
  }
  return exn::cpu::use_threads(threads);
}

exn_status exn_read_probe(const void* data, size_t bytes, uint64_t* checksum) {
  if (checksum == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_read_probe: checksum is null, a place for it is required");
  }
  if (data == nullptr && bytes > 0) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_read_probe: data is null, but bytes is %zu", bytes);
  }
  return exn::cpu::read_probe(data, static_cast<int64_t>(bytes), checksum);
}

exn_status exn_copy_probe(void* dst, const void* src, size_t bytes, int32_t past_caches) {
  if (bytes > 0 && (dst == nullptr || src == nullptr)) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy_probe: %s is null, but bytes is %zu",
                     dst == nullptr ? "dst" : "src", bytes);
  }
  if (past_caches != 0 && past_caches != 1) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy_probe: past_caches is %d, but must be 0 or 1",
                     past_caches);
  }
  const uintptr_t to = reinterpret_cast<uintptr_t>(dst);
  const uintptr_t from = reinterpret_cast<uintptr_t>(src);
  if ((to < from ? from - to : to - from) < bytes) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy_probe: dst and src overlap, %zu bytes each",
                     bytes);
  }
  return exn::cpu::copy_probe(dst, src, static_cast<int64_t>(bytes), past_caches == 1);
}

exn_status exn_fma_probe(uint64_t multiply_adds, uint64_t* done) {
  if (done == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_fma_probe: done is null, a place for it is required");
  }
  return exn::cpu::fma_probe(multiply_adds, done);
}

}  // extern "C"
