// SPDX-License-Identifier: Apache-2.0
// Which backends there are, the loader of the CUDA backend, and the device functions of core.h.
#include "backends.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>

#include "base/platform/platform.h"
#include "cpu/backend.h"

namespace exn {
namespace {

// State of the CUDA backend. It is opened at most once; a failed attempt may be
// repeated with another path.
struct Cuda {
  std::mutex mutex;
  bool tried = false;
  bool open = false;
  std::string path;
  std::string reason;
  Backend table{};
};

Cuda& cuda() {
  // Never destroyed: a JVM may still run ops on other threads while the process exits.
  alignas(Cuda) static unsigned char memory[sizeof(Cuda)];
  static Cuda* state = new (memory) Cuda;
  return *state;
}

constexpr Host kHost{fail_text, ran};

// What EXEUNT_BACKEND says where that is no backend, else null. Read once.
const char* no_such_backend() {
  static char text[64];
  static const bool wrong = [] {
    const char* value = std::getenv("EXEUNT_BACKEND");
    if (value == nullptr || *value == 0) return false;
    std::snprintf(text, sizeof text, "%s", value);
    return std::strcmp(value, "cpu") != 0 && std::strcmp(value, "cuda") != 0;
  }();
  return wrong ? text : nullptr;
}

std::string beside_this_library() {
  return platform::library_in(platform::folder_of(platform::this_library()), "exeunt_cuda");
}

std::string default_path() {
  const char* named = std::getenv("EXEUNT_CUDA_LIBRARY");
  return named != nullptr && *named != 0 ? named : beside_this_library();
}

// Fills state.table, or returns why not.
std::string open_library(const std::string& path, Backend* table) {
  if (const char* wrong = no_such_backend()) {
    return std::string("EXEUNT_BACKEND is ") + wrong + ", neither cpu nor cuda";
  }
  const char* backend = std::getenv("EXEUNT_BACKEND");
  if (backend != nullptr && std::strcmp(backend, "cpu") == 0) {
    return "EXEUNT_BACKEND is cpu, which keeps the CUDA backend closed";
  }
  std::string why_not;
  void* library = platform::open_library(path, &why_not);
  if (library == nullptr) return "cannot open the CUDA backend: " + why_not;
  const auto query =
      reinterpret_cast<BackendQuery>(platform::symbol_of(library, kBackendQuerySymbol));
  if (query == nullptr) {
    platform::close_library(library);
    return path + " is no exeunt backend: it does not export " + kBackendQuerySymbol;
  }
  if (query(kBackendAbi, &kHost, table) != EXN_OK) {
    const std::string why = last_error();
    platform::close_library(library);
    return why;
  }
  if (table->abi != kBackendAbi || table->size != sizeof(Backend)) {
    const std::string why = path + " speaks backend ABI " + std::to_string(table->abi) +
                            " with a table of " + std::to_string(table->size) +
                            " bytes, this library expects " + std::to_string(kBackendAbi) +
                            " with " + std::to_string(sizeof(Backend));
    platform::close_library(library);
    return why;
  }
  return "";
}

bool open_cuda(const char* path) {
  Cuda& state = cuda();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.open) return true;
  if (state.tried && (path == nullptr || path == state.path)) return false;
  try {
    const std::string wanted = path != nullptr ? path : default_path();
    std::string reason = open_library(wanted, &state.table);
    state.path = wanted;
    state.reason.swap(reason);
    state.tried = true;
    state.open = state.reason.empty();
  } catch (const std::exception&) {
    state.reason = "no memory";  // short enough to need none; a later attempt may find some
  }
  return state.open;
}

// f(why the backend is not open); not by a copy, which would allocate.
template <class F>
auto with_cuda_reason(F&& f) {
  Cuda& state = cuda();
  std::lock_guard<std::mutex> lock(state.mutex);
  return f(state.reason.c_str());
}

}  // namespace

const Backend* backend_for(int32_t device_type, const char* op) {
  if (device_type == kDLCPU) {
    const char* wrong = no_such_backend();
    if (wrong == nullptr) return &cpu::backend();
    fail(EXN_BACKEND_UNAVAILABLE, "%s: EXEUNT_BACKEND is %s, neither cpu nor cuda", op, wrong);
    return nullptr;
  }
  if (device_type == kDLCUDA) {
    if (open_cuda(nullptr)) return &cuda().table;
    with_cuda_reason([&](const char* why) {
      return fail(EXN_BACKEND_UNAVAILABLE, "%s: the tensors are on a CUDA device, but %s", op, why);
    });
    return nullptr;
  }
  fail(EXN_INVALID_ARGUMENT, "%s: device_type is %d, expected 1 (cpu) or 2 (cuda)", op,
       device_type);
  return nullptr;
}

exn_status refuse_any_workspace(const char* op) {
  return fail(EXN_INVALID_ARGUMENT,
              "%s: tensors of these shapes need a workspace of more than %zu bytes", op,
              Workspace::kMostBytes);
}

exn_status refuse_workspace(const char* op, const void* workspace, size_t bytes, size_t needed) {
  if (needed > Workspace::kMostBytes) return refuse_any_workspace(op);
  if (workspace == nullptr) {
    return fail(EXN_INVALID_ARGUMENT, "%s: workspace is null, %zu bytes are needed", op, needed);
  }
  if (bytes < needed) {
    return fail(EXN_INVALID_ARGUMENT, "%s: workspace has %zu bytes, %zu are needed", op, bytes,
                needed);
  }
  return fail(EXN_INVALID_ARGUMENT, "%s: workspace is at %p, an alignment of %d bytes is needed",
              op, workspace, EXN_WORKSPACE_ALIGN);
}

exn_status device_backend(const char* function, int32_t device_type, int32_t device_id,
                          const Backend** backend) {
  if (device_type != kDLCPU && device_type != kDLCUDA) {
    return fail(EXN_INVALID_ARGUMENT, "%s: device_type is %d, expected 1 (cpu) or 2 (cuda)",
                function, device_type);
  }
  *backend = backend_for(device_type, function);
  if (*backend == nullptr) return EXN_BACKEND_UNAVAILABLE;
  const int32_t count = (*backend)->device_count();
  if (device_id < 0 || device_id >= count) {
    return fail(EXN_INVALID_ARGUMENT, "%s: device_id is %d, but the backend has %d devices",
                function, device_id, count);
  }
  return EXN_OK;
}

}  // namespace exn

extern "C" {

const char* exn_library_path(void) { return exn::platform::this_library(); }

exn_status exn_cuda_open(const char* path) {
  if (exn::open_cuda(path)) return EXN_OK;
  return exn::with_cuda_reason(
      [](const char* why) { return exn::fail(EXN_BACKEND_UNAVAILABLE, "exn_cuda_open: %s", why); });
}

int32_t exn_backend_available(int32_t backend) {
  if (backend == EXN_BACKEND_CPU) return exn::no_such_backend() == nullptr ? 1 : 0;
  return backend == EXN_BACKEND_CUDA && exn::open_cuda(nullptr) ? 1 : 0;
}

const char* exn_backend_reason(int32_t backend) {
  if (backend == EXN_BACKEND_CPU) {
    const char* wrong = exn::no_such_backend();
    return wrong == nullptr ? ""
                            : exn::thread_text("EXEUNT_BACKEND is %s, neither cpu nor cuda", wrong);
  }
  if (backend != EXN_BACKEND_CUDA) {
    return exn::thread_text("backend is %d, expected 0 (cpu) or 1 (cuda)", backend);
  }
  if (exn::open_cuda(nullptr)) return "";
  return exn::with_cuda_reason([](const char* why) { return exn::thread_text("%s", why); });
}

const char* exn_backend_name(int32_t backend) {
  if (backend == EXN_BACKEND_CPU) return exn::cpu::description();
  return exn_backend_available(backend) ? exn::thread_text("%s", exn::cuda().table.name) : "";
}

int32_t exn_device_count(int32_t backend) {
  if (backend == EXN_BACKEND_CPU) return exn_backend_available(backend);
  return exn_backend_available(backend) ? exn::cuda().table.device_count() : 0;
}

exn_status exn_alloc(int32_t device_type, int32_t device_id, size_t bytes, void** out) {
  if (out == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_alloc: out is null, a place for the pointer is required");
  }
  const exn::Backend* backend = nullptr;
  const exn_status status = exn::device_backend("exn_alloc", device_type, device_id, &backend);
  return status != EXN_OK ? status : backend->alloc(device_id, bytes == 0 ? 1 : bytes, out);
}

exn_status exn_free(int32_t device_type, int32_t device_id, void* pointer) {
  if (pointer == nullptr) return EXN_OK;
  const exn::Backend* backend = nullptr;
  const exn_status status = exn::device_backend("exn_free", device_type, device_id, &backend);
  return status != EXN_OK ? status : backend->free(device_id, pointer);
}

exn_status exn_copy(void* dst, int32_t dst_device_type, int32_t dst_device_id, const void* src,
                    int32_t src_device_type, int32_t src_device_id, size_t bytes,
                    exn_stream stream) {
  const exn::Backend* to = nullptr;
  const exn::Backend* from = nullptr;
  exn_status status = exn::device_backend("exn_copy (dst)", dst_device_type, dst_device_id, &to);
  if (status == EXN_OK) {
    status = exn::device_backend("exn_copy (src)", src_device_type, src_device_id, &from);
  }
  if (status != EXN_OK || bytes == 0) return status;
  if (dst == nullptr || src == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT, "exn_copy: %s is null, %zu bytes were asked for",
                     dst == nullptr ? "dst" : "src", bytes);
  }
  const bool dst_on_device = dst_device_type == kDLCUDA;
  const bool src_on_device = src_device_type == kDLCUDA;
  if (dst_on_device && src_on_device && dst_device_id != src_device_id) {
    return exn::fail(EXN_UNSUPPORTED,
                     "exn_copy: dst is on device %d and src on device %d, one device is expected",
                     dst_device_id, src_device_id);
  }
  const exn::Backend* backend = dst_on_device ? to : from;
  return backend->copy(dst_on_device ? dst_device_id : src_device_id, dst, dst_on_device, src,
                       src_on_device, bytes, stream);
}

exn_status exn_stream_create(int32_t device_type, int32_t device_id, exn_stream* out) {
  if (out == nullptr) {
    return exn::fail(EXN_INVALID_ARGUMENT,
                     "exn_stream_create: out is null, a place for the stream is required");
  }
  const exn::Backend* backend = nullptr;
  const exn_status status =
      exn::device_backend("exn_stream_create", device_type, device_id, &backend);
  return status != EXN_OK ? status : backend->stream_create(device_id, out);
}

exn_status exn_stream_destroy(int32_t device_type, int32_t device_id, exn_stream stream) {
  if (stream == nullptr) return EXN_OK;
  const exn::Backend* backend = nullptr;
  const exn_status status =
      exn::device_backend("exn_stream_destroy", device_type, device_id, &backend);
  return status != EXN_OK ? status : backend->stream_destroy(device_id, stream);
}

exn_status exn_stream_synchronize(int32_t device_type, int32_t device_id, exn_stream stream) {
  const exn::Backend* backend = nullptr;
  const exn_status status =
      exn::device_backend("exn_stream_synchronize", device_type, device_id, &backend);
  return status != EXN_OK ? status : backend->stream_synchronize(device_id, stream);
}

}  // extern "C"
