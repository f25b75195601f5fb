// SPDX-License-Identifier: Apache-2.0
// The table of backends and the one way an op reaches them.
#pragma once

#include <type_traits>

#include "base/ops.h"
#include "check.h"
#include "params.h"

namespace exn {

// The backend of a device type, or null after recording why there is none.
const Backend* backend_for(int32_t device_type, const char* op);

// The backend of a device function, after the checks they share.
exn_status device_backend(const char* function, int32_t device_type, int32_t device_id,
                          const Backend** backend);

// The caller's workspace as the backend may use it: what is null or misaligned has no bytes.
inline Workspace usable(void* workspace, size_t bytes) {
  const bool sound = workspace != nullptr &&
                     (reinterpret_cast<uintptr_t>(workspace) & (EXN_WORKSPACE_ALIGN - 1)) == 0;
  return {workspace, sound ? bytes : 0};
}

// Says why a workspace was not enough for the `needed` bytes, or that none would be.
exn_status refuse_workspace(const char* op, const void* workspace, size_t bytes, size_t needed);
exn_status refuse_any_workspace(const char* op);

// Whether kernels get the params struct as well. A number that they take as it is needs no field in
// Args where there is such a `given`, and no line here but its check.
template <class Args, class = void>
constexpr bool kTakesGiven = false;
template <class Args>
constexpr bool kTakesGiven<Args, std::void_t<decltype(Args::given)>> = true;

// What the three functions of every op share. `check_args` fills the plain arguments from the
// params or returns why not.
template <class Params, class Args>
struct Op {
  const char* name;
  void (*check_args)(const Params&, Check&, Args*);
  exn_status (*Backend::*entry)(const Args&, Workspace&, exn_stream);

  // Not inlined: what it needs of the stack is free again when the kernel runs.
  __attribute__((noinline)) exn_status prepare(const Params* params, Args* args,
                                               const Backend** backend) const {
    Params copy;
    const exn_status read = read_params(name, params, &copy);
    if (read != EXN_OK) return read;
    Range ranges[kMostRanges<Args>];
    Check check(name, ranges, kNoting<Args>);
    check_args(copy, check, args);
    if constexpr (kNoting<Args> == Noting::kOutputs) {
      check.outputs_apart();
      if (check.ok()) check_args(copy, check, args);
    } else {
      static_assert(kMostRanges<Args> <= Check::kFewRanges);
      check.no_overlap();
    }
    if (!check.ok()) return check.status();
    if constexpr (kTakesGiven<Args>) args->given = copy;
    args->device = check.device_id();
    *backend = backend_for(check.device_type(), name);
    if (*backend == nullptr) return EXN_BACKEND_UNAVAILABLE;
    // A backend that is there has a device 0.
    if (args->device != 0 && (args->device < 0 || args->device >= (*backend)->device_count())) {
      return fail(EXN_INVALID_ARGUMENT, "%s: device_id is %d, but the backend has %d devices", name,
                  args->device, (*backend)->device_count());
    }
    return EXN_OK;
  }

  exn_status size(const Params* params, size_t* bytes) const {
    if (bytes == nullptr) {
      return fail(EXN_INVALID_ARGUMENT, "%s: bytes is null, a place for the size is required",
                  name);
    }
    Args args;
    const Backend* backend = nullptr;
    exn_status status = prepare(params, &args, &backend);
    if (status != EXN_OK) return status;
    Workspace counter;
    status = (backend->*entry)(args, counter, nullptr);
    if (status != EXN_OK) return status;
    if (counter.used() > Workspace::kMostBytes) return refuse_any_workspace(name);
    *bytes = counter.used();
    return EXN_OK;
  }

  exn_status run(const Params* params, void* workspace, size_t bytes, exn_stream stream) const {
    Args args;
    const Backend* backend = nullptr;
    exn_status status = prepare(params, &args, &backend);
    if (status != EXN_OK) return status;
    Workspace carved = usable(workspace, bytes);
    status = (backend->*entry)(args, carved, stream);
    if (status != EXN_OK || !carved.counting()) return status;
    return refuse_workspace(name, workspace, bytes, carved.used());
  }
};

// Defines exn_<op>_supported, exn_<op>_workspace_size and exn_<op>. In `exn`: the struct that `check`
// makes of the arguments, and `check`.
#define EXN_DEFINE_OP(op, args, check)                                                         \
  static constexpr exn::Op<exn_##op##_params, exn::args> exn_##op##_op{"exn_" #op, exn::check, \
                                                                       &exn::Backend::op};     \
  extern "C" {                                                                                 \
  exn_status exn_##op##_supported(const exn_##op##_params* params) {                           \
    size_t bytes;                                                                              \
    return exn_##op##_op.size(params, &bytes);                                                 \
  }                                                                                            \
  exn_status exn_##op##_workspace_size(const exn_##op##_params* params, size_t* bytes) {       \
    return exn_##op##_op.size(params, bytes);                                                  \
  }                                                                                            \
  exn_status exn_##op(const exn_##op##_params* params, void* workspace, size_t bytes,          \
                      exn_stream stream) {                                                     \
    return exn_##op##_op.run(params, workspace, bytes, stream);                                \
  }                                                                                            \
  }

}  // namespace exn
