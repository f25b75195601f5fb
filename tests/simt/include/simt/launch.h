// SPDX-License-Identifier: Apache-2.0
//
// Kernel launches, and the entry points that take a kernel's address.
#pragma once

#include <memory>
#include <vector>

namespace simt {

// A kernel with its arguments. Every emulated thread calls it, so its copy of the arguments plays
// the role of the constant bank: readable, and the same for all.
struct Invocation {
  virtual ~Invocation() = default;
  virtual void run() const = 0;
  virtual size_t size() const = 0;
  // The arguments as a GPU gets them: one after the other, each at a multiple of its alignment.
  virtual std::vector<unsigned char> packed() const = 0;
};

template <class... Parameters>
struct KernelInvocation final : Invocation {
  using Kernel = void (*)(Parameters...);

  template <class... Arguments>
  explicit KernelInvocation(Kernel kernel, Arguments&&... arguments)
      : kernel(kernel), arguments(std::forward<Arguments>(arguments)...) {}

  void run() const override { std::apply(kernel, arguments); }
  size_t size() const override { return sizeof(*this); }
  std::vector<unsigned char> packed() const override {
    std::vector<unsigned char> bytes;
    std::apply([&bytes](const auto&... argument) { (append(&bytes, argument), ...); }, arguments);
    return bytes;
  }

  template <class T>
  static void append(std::vector<unsigned char>* bytes, const T& argument) {
    bytes->resize((bytes->size() + alignof(T) - 1) / alignof(T) * alignof(T));
    const auto* first = reinterpret_cast<const unsigned char*>(&argument);
    bytes->insert(bytes->end(), first, first + sizeof argument);
  }

  Kernel kernel;
  std::tuple<std::decay_t<Parameters>...> arguments;
};

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t dynamic_shared;
};

// Runs the invocation, or records it when the stream is being captured.
void submit_launch(const char* name, const void* kernel, const LaunchShape& shape,
                   cudaStream_t stream, std::shared_ptr<const Invocation> invocation);

template <class... Parameters, class... Arguments>
inline void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t dynamic_shared, cudaStream_t stream, Arguments&&... arguments) {
  submit_launch(name, reinterpret_cast<const void*>(kernel), {grid, block, dynamic_shared}, stream,
                std::make_shared<KernelInvocation<Parameters...>>(
                    kernel, std::forward<Arguments>(arguments)...));
}

}  // namespace simt

#define EXN_LAUNCH(kernel, grid, block, smem, stream, ...) \
  ::simt::launch(#kernel, kernel, (grid), (block), (smem), (stream), ##__VA_ARGS__)

// NVIDIA's header offers these overloads to nvcc alone.
template <class... Parameters>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                        int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <class... Parameters>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes,
                                         void (*kernel)(Parameters...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
