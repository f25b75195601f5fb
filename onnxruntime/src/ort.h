// SPDX-License-Identifier: Apache-2.0
// What every source here says to ONNX Runtime: statuses as exceptions, tensors as plain views.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "ort_api.h"

namespace exn::ort {

struct Failure : std::runtime_error {
  int32_t code;
  Failure(int32_t status, const std::string& text) : std::runtime_error(text), code(status) {}
};

// Throws what a status says.
inline void check(const Api& api, OrtStatus* status) {
  if (status == nullptr) return;
  const std::string text = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw Failure(kFail, text);
}

// Calls f, and makes a status of what it throws: nothing may be thrown into ONNX Runtime.
template <class F>
OrtStatus* guarded(const Api& api, const F& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (const Failure& failure) {
    return api.CreateStatus(failure.code, failure.what());
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(kEpFail, "exeunt: out of memory");
  } catch (const std::exception& failure) {
    return api.CreateStatus(kEpFail, failure.what());
  } catch (...) {
    return api.CreateStatus(kEpFail, "exeunt: an exception of an unknown type");
  }
}

// The elements of a dense tensor, wherever they lie.
struct TensorView {
  void* data = nullptr;
  int32_t type = 0;
  std::vector<int64_t> shape;

  int64_t count() const {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    return n;
  }
  int64_t last() const { return shape.empty() ? 1 : shape.back(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Of a value that is a tensor; its elements are not to be written to.
inline TensorView view_of(const Api& api, const OrtValue* value) {
  TensorView view;
  const int64_t* shape = nullptr;
  size_t rank = 0;
  check(api, api.GetTensorElementTypeAndShapeDataReference(value, &view.type, &shape, &rank));
  view.shape.assign(shape, shape + rank);
  const void* data = nullptr;
  check(api, api.GetTensorData(value, &data));
  view.data = const_cast<void*>(data);
  return view;
}

inline TensorView input_of(const Api& api, const OrtKernelContext* context, size_t index) {
  const OrtValue* value = nullptr;
  check(api, api.KernelContext_GetInput(context, index, &value));
  if (value == nullptr) return {};
  return view_of(api, value);
}

// Where values are, by their names: among the inputs, or the outputs, of a fused node, and among
// what its steps hand to one another.
struct Places {
  std::unordered_map<std::string, size_t> of_node, within;
};

// A value that a step reads or makes. Its place is known once ONNX Runtime has fused.
struct Slot {
  static constexpr size_t kNowhere = SIZE_MAX;

  std::string name;
  int32_t type = 0;
  size_t of_node = kNowhere, within = kNowhere;

  // Whether there is a place for it: there is none for outputs that no node reads.
  bool bind(const Places& places) {
    const auto find = [&](const auto& map) {
      const auto found = map.find(name);
      return found == map.end() ? kNowhere : found->second;
    };
    of_node = find(places.of_node);
    within = find(places.within);
    return of_node != kNowhere || within != kNowhere;
  }
  void require(const Places& places) {
    if (!bind(places)) throw Failure(kEpFail, "exeunt: the fused node lacks the value " + name);
  }
};

inline TensorView output_of(const Api& api, OrtKernelContext* context, size_t index, int32_t type,
                            const std::vector<int64_t>& shape) {
  OrtValue* value = nullptr;
  check(api, api.KernelContext_GetOutput(context, index, shape.data(), shape.size(), &value));
  TensorView view{nullptr, type, shape};
  if (value != nullptr) check(api, api.GetTensorMutableData(value, &view.data));
  return view;
}

inline std::string text_of(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? "," : "") + std::to_string(shape[i]);
  return out + "]";
}

class Frame;

// What runs where a graph had one or several nodes; from several threads at the same time, if need
// be. It is made before ONNX Runtime fuses those nodes, and holds nothing of the graph's.
class Step {
 public:
  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual ~Step() = default;
  // Once, before the first run.
  virtual void bind(const Places& inputs, const Places& outputs) = 0;
  virtual void run(Frame& frame) const = 0;
};

// Fewer multiplications are not worth another thread.
constexpr int64_t kWorthAThread = 100000;

// f(i) for every i below count, on the threads of the session that runs this node. The first
// exception goes on from here, once all have ended.
template <class F>
void parallel(const Api& api, const OrtKernelContext* context, int64_t count, const F& f) {
  if (count <= 1) {
    if (count == 1) f(int64_t{0});
    return;
  }
  struct Call {
    const F& f;
    std::atomic<bool> failed{false};
    std::exception_ptr failure{};
  } call{f};
  const auto body = [](void* data, size_t i) {
    auto* own = static_cast<Call*>(data);
    try {
      own->f(static_cast<int64_t>(i));
    } catch (...) {
      if (!own->failed.exchange(true)) own->failure = std::current_exception();
    }
  };
  check(api, api.KernelContext_ParallelFor(context, body, static_cast<size_t>(count), 0, &call));
  if (call.failure) std::rethrow_exception(call.failure);
}

}  // namespace exn::ort
