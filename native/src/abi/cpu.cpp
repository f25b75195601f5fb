// SPDX-License-Identifier: Apache-2.0
// The CPU's functions of core.h: instruction sets, threads, probes.
#include "cpu/backend.h"

#include "base/status.h"

namespace {

exn_status no_way(const char* probe, int32_t way, int32_t ways) {
  return exn::fail(EXN_INVALID_ARGUMENT, "%s: way is %d, expected 0..%d", probe, way, ways - 1);
}

}  // namespace

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

const char* exn_cpu_tuning(void) { return exn::cpu::tuning_in_force(); }

exn_status exn_cpu_set_tuning(const char* text) { return exn::cpu::use_tuning(text); }

exn_status exn_cpu_tune(int32_t milliseconds, const char* path) {
  if (milliseconds < 1 || milliseconds > 60000) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_cpu_tune: milliseconds is %d, expected 1..60000",
                     milliseconds);
  }
  return exn::cpu::tune(milliseconds, path);
}

exn_status exn_read_probe(const void* data, size_t bytes, int32_t way, uint64_t* checksum) {
  if (checksum == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_read_probe: checksum is null, a place for it is required");
  }
  if (data == nullptr && bytes > 0) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_read_probe: data is null, but bytes is %zu", bytes);
  }
  if (way < 0 || way >= EXN_READ_WAYS) return no_way("exn_read_probe", way, EXN_READ_WAYS);
  return exn::cpu::read_probe(data, static_cast<int64_t>(bytes), way, checksum);
}

exn_status exn_copy_probe(void* dst, const void* src, size_t bytes, int32_t way) {
  if (bytes > 0 && (dst == nullptr || src == nullptr)) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy_probe: %s is null, but bytes is %zu",
                     dst == nullptr ? "dst" : "src", bytes);
  }
  if (way < 0 || way >= EXN_COPY_WAYS) return no_way("exn_copy_probe", way, EXN_COPY_WAYS);
  const uintptr_t to = reinterpret_cast<uintptr_t>(dst);
  const uintptr_t from = reinterpret_cast<uintptr_t>(src);
  if ((to < from ? from - to : to - from) < bytes) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy_probe: dst and src overlap, %zu bytes each",
                     bytes);
  }
  return exn::cpu::copy_probe(dst, src, static_cast<int64_t>(bytes), way);
}

exn_status exn_fma_probe(uint64_t multiply_adds, uint64_t* done) {
  if (done == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_fma_probe: done is null, a place for it is required");
  }
  return exn::cpu::fma_probe(multiply_adds, done);
}

}  // extern "C"
