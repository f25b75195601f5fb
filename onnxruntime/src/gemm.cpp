// SPDX-License-Identifier: Apache-2.0
#include "gemm.h"

namespace exn::ort {
namespace {

// A protocol buffer of onnx.proto's messages; no length here needs more than a byte or two.
std::string integer(int field, uint64_t value) {
  std::string out(1, static_cast<char>(field << 3));
  for (; value > 127; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}

std::string bytes(int field, const std::string& value) {
  std::string out = integer(field, value.size());
  out[0] = static_cast<char>(field << 3 | 2);
  return out + value;
}

std::string matrix(const char* name, const char* rows, const char* cols) {
  const std::string shape = bytes(1, bytes(2, rows)) + bytes(1, bytes(2, cols));
  return bytes(1, name) + bytes(2, bytes(1, integer(1, kFloat) + bytes(2, shape)));
}

std::string model() {
  const std::string transposed = bytes(1, "transB") + integer(3, 1) + std::string("\xa0\x01\x02");
  const std::string node =
      bytes(1, "a") + bytes(1, "b") + bytes(2, "y") + bytes(4, "Gemm") + bytes(5, transposed);
  const std::string graph = bytes(1, node) + bytes(2, "gemm") + bytes(11, matrix("a", "m", "k")) +
                            bytes(11, matrix("b", "n", "k")) + bytes(12, matrix("y", "m", "n"));
  return integer(1, 8) + bytes(7, graph) + bytes(8, bytes(1, "") + integer(2, 13));
}

}  // namespace

Gemm::Gemm(const Api& api) : api_(api) {
  const std::string text = model();
  // A process has one environment; this is another reference to it.
  check(api, api.CreateEnv(kWarning, "exeunt", &env_));
  check(api, api.CreateCpuMemoryInfo(0, 0, &memory_));
  check(api, api.CreateSessionOptions(&options_));
  check(api, api.SetIntraOpNumThreads(options_, 1));
  check(api, api.CreateSessionFromArray(env_, text.data(), text.size(), options_, &session_));
}

Gemm::~Gemm() {
  if (session_) api_.ReleaseSession(session_);
  if (options_) api_.ReleaseSessionOptions(options_);
  if (memory_) api_.ReleaseMemoryInfo(memory_);
  if (env_) api_.ReleaseEnv(env_);
}

void Gemm::run(const float* a, const float* b, float* out, int64_t m, int64_t n, int64_t k) const {
  struct Values {
    const Api& api;
    OrtValue* list[3] = {};
    ~Values() {
      for (OrtValue* value : list) {
        if (value) api.ReleaseValue(value);
      }
    }
  } values{api_};
  const auto tensor = [&](const float* data, int64_t rows, int64_t cols, OrtValue** value) {
    const int64_t shape[] = {rows, cols};
    check(api_, api_.CreateTensorWithDataAsOrtValue(
                    memory_, const_cast<float*>(data),
                    static_cast<size_t>(rows * cols) * sizeof(float), shape, 2, kFloat, value));
  };
  tensor(a, m, k, &values.list[0]);
  tensor(b, n, k, &values.list[1]);
  tensor(out, m, n, &values.list[2]);
  const char *const inputs[] = {"a", "b"}, *const outputs[] = {"y"};
  check(api_, api_.Run(session_, nullptr, inputs, values.list, 2, outputs, 1, &values.list[2]));
}

}  // namespace exn::ort
