// SPDX-License-Identifier: Apache-2.0
// A sound call of every op with every argument given, whose extents a test may change: for what
// holds of all arguments of all ops.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness.h"

namespace exn::test {

using Extents = std::map<std::string, int64_t>;

// One tensor of a call.
struct Argument {
  enum Fill { kZeros, kOnes, kCounting, kNumbers, kPoison, kConstant };

  std::string name;
  Type type;
  std::vector<int64_t> shape;
  bool written;
  bool optional;
  bool strided;  // rows along axis 0 may have gaps between them
  Fill fill;
  int64_t constant;
  std::vector<const DLTensor**> fields;
  DLTensor dl;

  int64_t elements() const;
  int64_t row_elements() const;
  bool empty() const { return elements() == 0; }
  HostTensor initial() const;
};

// The arguments of one call. Extents are taken from `wanted` where it names them; what they are and
// may be is in `extents` and `may_be_zero`.
class SampleCall {
 public:
  explicit SampleCall(Extents wanted) : wanted_(std::move(wanted)) {}

  int64_t extent(const char* name, int64_t usual, bool zero_is_sound = true);

  template <class Params>
  Params* params(const Op<Params>& op) {
    auto p = std::make_shared<Params>();
    p->struct_size = sizeof(Params);
    call = bound<Params>(op, p);
    return p.get();
  }
  // Whatever else must live as long as the call.
  template <class T>
  T* also(size_t count) {
    auto p = std::make_shared<std::vector<T>>(count);
    more_.push_back(p);
    return p->data();
  }

  Argument* in(const DLTensor** field, const std::string& name, Type type,
               std::vector<int64_t> shape, Argument::Fill fill = Argument::kZeros) {
    return add(field, name, type, std::move(shape), fill, false);
  }
  Argument* numbers(const DLTensor** field, const std::string& name, std::vector<int64_t> shape) {
    return add(field, name, Type::kF32, std::move(shape), Argument::kNumbers, false);
  }
  Argument* out(const DLTensor** field, const std::string& name, Type type,
                std::vector<int64_t> shape) {
    return add(field, name, type, std::move(shape), Argument::kPoison, true);
  }
  Argument* in_out(const DLTensor** field, const std::string& name, std::vector<int64_t> shape) {
    return add(field, name, Type::kI32, std::move(shape), Argument::kZeros, true);
  }

  BoundCall call;
  std::vector<std::unique_ptr<Argument>> arguments;
  Extents extents;
  std::vector<std::string> may_be_zero;

 private:
  Argument* add(const DLTensor** field, const std::string& name, Type type,
                std::vector<int64_t> shape, Argument::Fill fill, bool written);

  Extents wanted_;
  std::vector<std::shared_ptr<void>> more_;
};

struct SampleOp {
  std::string name;
  void (*build)(SampleCall*);
  bool on_cuda = true;

  SampleCall make(Extents wanted = {}) const {
    SampleCall call(std::move(wanted));
    build(&call);
    return call;
  }
};

inline std::ostream& operator<<(std::ostream& stream, const SampleOp& op) {
  return stream << op.name;
}

const std::vector<SampleOp>& sample_ops();

}  // namespace exn::test
