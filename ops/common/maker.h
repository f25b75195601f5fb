// SPDX-License-Identifier: Apache-2.0
//
// What describes the params of an op and makes sound ones at the same time. A description (in each
// op's case.cpp) draws sizes and types, and names every field once with what goes in:
//
//   const Dim rows = m.dim("rows", 0, 5, 70), columns = m.dim("columns", 1, 40, 600);
//   m.in(FIELD(logits), m.type(kFloats), {rows, columns}, kRows);
//   m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
//
// The maker puts tensors into the memory that it is given and keeps a list of fields, from which
// those who spoil a call know what can be wrong with it: a size that two fields have must not
// change in one of them alone, an integer has its range, and so on.
//
// It draws by chance, or makes a sample: every optional field given, each size as usual, unless
// it is set by its name to whatever a test wants.
#pragma once

#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "blocks.h"
#include "case.h"
#include "random.h"

namespace exn::test {

// Where a tensor lies.
struct Slot {
  static constexpr unsigned char kCanary = 0xA5;

  char* begin;      // for the driver, and for what an op may write
  char* read_only;  // the same bytes
  size_t bytes;
  char* before;  // a copy of all bytes fits there

  // Through which an op gets memory that it writes, or only reads.
  char* view(bool writable) const { return writable ? begin : read_only; }
};

class Memory {
 public:
  virtual ~Memory() = default;
  // All slots are free again.
  virtual void reset() = 0;
  // A free slot of at least that size; null if there is none. After a reset there is one of a byte.
  virtual Slot* take(size_t bytes) = 0;
};

// A field of the params `p` and its name.
#define FIELD(field) p.field, #field

using DTypes = uint32_t;
constexpr DTypes only(Type t) { return 1u << static_cast<int>(t); }
constexpr DTypes kFloats = only(Type::kF32) | only(Type::kF16) | only(Type::kBF16);
constexpr DTypes kFloatsAndF64 = kFloats | only(Type::kF64);
constexpr DTypes kLabels = only(Type::kI32) | only(Type::kI64);
constexpr DTypes kAnything = kFloatsAndF64 | kLabels | only(Type::kU8);

// A size, or a type. Those drawn once and used for several fields belong together.
struct Dim {
  int64_t size;
  int symbol;
};
struct TypeOf {
  Type type;
  DTypes allowed;
  int symbol;
};
constexpr TypeOf kF32{Type::kF32, only(Type::kF32), 0};
constexpr TypeOf kI32{Type::kI32, only(Type::kI32), 0};
constexpr TypeOf kU8{Type::kU8, only(Type::kU8), 0};
constexpr TypeOf kI64{Type::kI64, only(Type::kI64), 0};

enum Flags : unsigned {
  kPlain = 0,
  kOptional = 1,  // left out in some cases
  kRows = 2,      // the stride of axis 0 is free
  kAnyRank = 4,   // several ranks are sound
  kWanted = 8,    // optional, but given in this case
  kNever = 16,    // optional, and left out in this case
};

enum class Role { kIn, kOut, kInOut };

constexpr int kMostRank = 8;

struct Tensor {
  DLTensor dl;
  int64_t shape[kMostRank];
  int64_t strides[kMostRank];
  Slot* slot;
  bool written;
  bool resized;  // by a spoiler: sizes and strides alone
  bool spoilt;   // in another way
  int64_t elements;

  // Its elements for the driver, in order: of a compact tensor.
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(slot->begin + offset());
  }
  int64_t offset() const {  // in the slot
    return reinterpret_cast<char*>(dl.data) + dl.byte_offset - slot->view(written);
  }
};

// Entries that name something: within least..most, or else, if `strict`, the call is refused on the
// CPU.
struct Ids {
  int64_t least;
  int64_t most;
  bool strict;
};

struct TensorField {
  const char* name;
  const DLTensor** place;
  Tensor* tensor;  // null: left out
  Role role;
  TypeOf type;
  int rank;
  Dim dims[kMostRank];
  unsigned flags;
  bool absent;  // must be null in this case
  bool has_ids;
  Ids ids;
  int may_equal;              // the field whose memory an output may have, or -1
  const BlockFormat* blocks;  // of weights; null: of none
};

enum class Domain { kPositive, kNotNegative, kFinite, kNotNan, kShare, kAtLeastOne, kZero, kAny };

struct ScalarField {
  enum Kind { kInt32, kInt64, kFloat, kDouble, kArray } kind;
  static constexpr const char* kKinds[] = {"int32", "int64", "float", "double", "array"};
  const char* name;
  void* place;
  int64_t least;  // of integers
  int64_t most;
  Domain domain;     // of the others
  int64_t in_array;  // entries at the pointer, or of the array that it counts; else -1
  bool is_mode;
  bool is_tag;                // of weights, of which blocks() says the format
  const BlockFormat* blocks;  // null: of none
};

// Among what a sample can be asked for by name.
struct NamedChoice {
  std::string name;
  int32_t first, last, chosen;
};

constexpr int64_t kMost32 = INT32_MAX, kAny64 = INT64_MIN;

// Of sizes that may be anything.
inline int64_t times(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}
inline int64_t plus(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

using Named = std::map<std::string, int64_t>;

class Maker {
 public:
  static constexpr int kMostTensors = 64;
  static constexpr int kMostScalars = 48;

  Maker(Memory* memory, int32_t device_type) : memory_(memory), device_type_(device_type) {}

  // Starts a case; the params struct of `bytes` bytes, zeroed, ends at a guard. Null if a case
  // wants more memory than there is, from here on.
  void* begin(Random* random, size_t bytes);
  // Starts a sample instead, with these sizes and choices where they are named.
  void* begin_sample(const Named& wanted, size_t bytes);
  // Whether the case found memory for everything.
  bool complete() const { return !out_of_room_; }
  // After the last field: makes the tensors of this case start with what they hold now.
  void end();

  Random& random() { return *random_; }
  bool on_cpu() const { return device_type_ == kDLCPU; }
  int32_t device_type() const { return device_type_; }
  const void* params() const { return params_read_only_; }
  void* mutable_params() { return params_; }

  // ---- sizes and types ----

  // Mostly least..usual, at times up to `most`.
  Dim dim(const char* name, int64_t least, int64_t usual, int64_t most) {
    return derived(size(name, wanted_ != nullptr ? usual : drawn(least, usual, most)));
  }
  // Any of least..most, in a sample about the middle.
  int64_t within(const char* name, int64_t least, int64_t most) {
    return size(name,
                wanted_ != nullptr ? most - (most - least) / 2 : random().between(least, most));
  }
  // A size that the description has drawn, and any other of a sample.
  int64_t size(const char* name, int64_t drawn);
  // How many parts a case is made of: no size that a sample may change.
  Dim count(int64_t least, int64_t usual, int64_t most) {
    return derived(wanted_ != nullptr ? usual : drawn(least, usual, most));
  }
  // A size that follows from others.
  Dim derived(int64_t size) { return {size, ++symbols_}; }
  // The same, and an axis with another one is wrong.
  Dim fixed(int64_t size) {
    const Dim dim = derived(size);
    if (symbols_ >= kMostSymbols) __builtin_trap();
    ++size_uses_[dim.symbol];
    return dim;
  }
  // In a sample f32 if that is allowed, or the one that "dtype" numbers.
  TypeOf type(DTypes allowed);
  // One of first..last; in a sample the last.
  int32_t one_of(const char* name, int32_t first, int32_t last);
  // Whether chance wants what is called so, as it does in one of `count` cases; a sample does not.
  bool some(const char* name, int64_t count) {
    return wanted_ != nullptr ? chosen(name, 0, 1, 0) != 0 : random().one_in(count);
  }

  // ---- tensors: null if the case leaves it out ----

  Tensor* in(const DLTensor*& field, const char* name, TypeOf type, std::initializer_list<Dim> dims,
             unsigned flags = kPlain) {
    return tensor(field, name, Role::kIn, type, dims, flags);
  }
  Tensor* out(const DLTensor*& field, const char* name, TypeOf type,
              std::initializer_list<Dim> dims, unsigned flags = kPlain) {
    return tensor(field, name, Role::kOut, type, dims, flags);
  }
  Tensor* in_out(const DLTensor*& field, const char* name, TypeOf type,
                 std::initializer_list<Dim> dims, unsigned flags = kPlain) {
    return tensor(field, name, Role::kInOut, type, dims, flags);
  }
  // Weights [..., columns] of a float type or of blocks, whose tag goes into the field that
  // blocks() was given; null: of no blocks. blocks_as() gives blocks to another weight if `first`
  // has some, and none if not. columns() draws as many as fit blocks of both kinds. A sample has
  // none, unless "blocks" numbers a format, from 1 on, and after those the kinds of panels.
  template <class Integer>
  const BlockFormat* blocks(Integer& field, const char* name) {
    return tagged(field, name, drawn_format());
  }
  template <class Integer>
  const BlockFormat* blocks_or_panels(Integer& field, const char* name) {
    return tagged(field, name, drawn_format(true));
  }
  template <class Integer>
  const BlockFormat* blocks_as(const BlockFormat* first, Integer& field, const char* name) {
    return tagged(field, name, first == nullptr ? nullptr : drawn_format_as(first));
  }
  Dim columns(const BlockFormat* blocks, const char* name, int64_t least, int64_t usual,
              int64_t most) {
    return columns({blocks}, name, least, usual, most);
  }
  Dim columns(std::initializer_list<const BlockFormat*> blocks, const char* name, int64_t least,
              int64_t usual, int64_t most);
  Tensor* weights(const DLTensor*& field, const char* name, const BlockFormat* blocks, TypeOf type,
                  std::initializer_list<Dim> dims, unsigned flags = kRows);
  // i32, each within ids.least..ids.most.
  int32_t* ids(const DLTensor*& field, const char* name, std::initializer_list<Dim> dims, Ids ids,
               unsigned flags = kPlain);
  // i32 that the description fills; starts as zeros.
  int32_t* integers(const DLTensor*& field, const char* name, Role role,
                    std::initializer_list<Dim> dims, unsigned flags = kPlain);
  // An output that may be exactly `input`, a tensor made before, and is in some cases. Of another
  // type or size it never is.
  Tensor* out_over(const DLTensor*& field, const char* name, const Tensor* input, TypeOf type,
                   std::initializer_list<Dim> dims, unsigned flags = kPlain);
  // `field` is `of` again: one tensor in two fields.
  void again(const DLTensor*& field, const char* name, const Tensor* of);
  // Must be null in this case.
  void none(const DLTensor*& field, const char* name) {
    field = nullptr;
    added(field, name)->absent = true;
  }

  // ---- scalars ----

  template <class Integer>
  void integer(Integer& field, const char* name, int64_t value, int64_t least, int64_t most) {
    field = static_cast<Integer>(value);
    scalar(sizeof field == 4 ? ScalarField::kInt32 : ScalarField::kInt64, &field, name, least,
           most);
  }
  // Whatever it is, the call is sound, or wrong for another reason.
  template <class Integer>
  void any_integer(Integer& field, const char* name, int64_t value) {
    integer(field, name, value, INT64_MIN, INT64_MAX);
  }
  int32_t choice(int32_t& field, const char* name, int32_t first, int32_t last) {
    integer(field, name, one_of(name, first, last), first, last);
    return field;
  }
  // A choice that says which tensors are written: another one would make another case.
  int32_t mode(int32_t& field, const char* name, int32_t first, int32_t last) {
    choice(field, name, first, last);
    scalars_[scalar_count_ - 1].is_mode = true;
    return field;
  }
  template <class Integer>
  void zero(Integer& field, const char* name) {
    integer(field, name, 0, 0, 0);
  }
  // Drawn from the domain; what lies outside is wrong.
  void real(float& field, const char* name, Domain domain) { number(&field, name, domain); }
  void real(double& field, const char* name, Domain domain) { number(&field, name, domain); }
  // The value does not matter in this case.
  void unused(float& field, const char* name) { number(&field, name, Domain::kAny); }
  // An array of structs that `field` points to, at a guard, zeroed.
  template <class T>
  T* array(const T*& field, const char* name, int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    Slot* slot = take_slot(bytes);
    char* at = slot->begin + slot->bytes - bytes;
    std::memset(at, 0, bytes);
    field = reinterpret_cast<const T*>(slot->read_only + slot->bytes - bytes);
    scalar(ScalarField::kArray, &field, name, 0, 0)->in_array = count;
    return reinterpret_cast<T*>(at);
  }
  // How many entries it has, at most `most` for any caller.
  void array_count(int32_t& field, const char* name, int64_t count, int64_t least, int64_t most) {
    integer(field, name, count, least, most);
    scalars_[scalar_count_ - 1].in_array = count;
  }

  // ---- what was made ----

  TensorField* fields() { return fields_; }
  int field_count() const { return field_count_; }
  ScalarField* scalars() { return scalars_; }
  int scalar_count() const { return scalar_count_; }
  Tensor* tensors() { return tensors_; }
  int tensor_count() const { return tensor_count_; }
  int uses_of_size(int symbol) const { return symbol == 0 ? 0 : size_uses_[symbol]; }
  int uses_of_type(int symbol) const { return symbol == 0 ? 0 : type_uses_[symbol]; }
  // Of a sample.
  const Named& sizes() const { return sizes_; }
  const std::vector<NamedChoice>& choices() const { return choices_; }
  // The field whose tensor is at `tensor`, for messages.
  const TensorField* field_of(const Slot* slot) const;
  Slot* take_slot(size_t bytes);
  void fill(Tensor* tensor, Type type);

 private:
  static constexpr int kMostSymbols = 128;

  const BlockFormat* drawn_format(bool panels = false);
  const BlockFormat* drawn_format_as(const BlockFormat* first);
  template <class Integer>
  const BlockFormat* tagged(Integer& field, const char* name, const BlockFormat* format) {
    // Some formats fill a row with as many bytes as others, and all need bytes.
    integer(field, name, format == nullptr ? EXN_BLOCKS_NONE : format->tag, EXN_BLOCKS_NONE,
            EXN_BLOCKS_Q6_K);
    ScalarField& s = scalars_[scalar_count_ - 1];
    s.is_mode = s.is_tag = true;
    s.blocks = format;
    return format;
  }

  int64_t drawn(int64_t least, int64_t usual, int64_t most);
  // What a sample was asked for by this name, or else `usual`.
  int32_t chosen(const char* name, int32_t first, int32_t last, int32_t usual);
  Tensor* tensor(const DLTensor*& field, const char* name, Role role, TypeOf type,
                 std::initializer_list<Dim> dims, unsigned flags);
  TensorField* added(const DLTensor*& field, const char* name);
  ScalarField* scalar(ScalarField::Kind kind, void* place, const char* name, int64_t least,
                      int64_t most);
  template <class Real>
  void number(Real* field, const char* name, Domain domain);

  Memory* memory_;
  int32_t device_type_;
  Random* random_ = nullptr;
  const Named* wanted_ = nullptr;  // null: chance decides
  Named sizes_;
  std::vector<NamedChoice> choices_;
  Random sample_random_{1, 0};
  void* params_ = nullptr;
  const void* params_read_only_ = nullptr;
  bool out_of_room_ = false;
  int symbols_ = 0;
  int field_count_ = 0;
  int scalar_count_ = 0;
  int tensor_count_ = 0;
  TensorField fields_[kMostTensors];
  ScalarField scalars_[kMostScalars];
  Tensor tensors_[kMostTensors];
  int size_uses_[kMostSymbols];
  int type_uses_[kMostSymbols];
};

// An op of the C ABI whatever its params are.
struct OpUnderTest {
  const char* name;  // as in its messages: exn_gate
  size_t params_bytes;
  std::function<void(Maker&, void*)> describe;
  std::function<exn_status(const void*)> supported;
  std::function<exn_status(const void*, size_t*)> workspace_size;
  std::function<exn_status(const void*, void*, size_t, exn_stream)> run;
};

// Those that are described, in alphabetical order.
const std::vector<OpUnderTest>& ops_under_test();

// What the folder of an op describes: `const Described kDescribed = EXN_DESCRIBED(cosine);`.
#define EXN_DESCRIBED(op) {"exn_" #op, EXN_TEST_OP(op), describe}
class Described {
 public:
  template <class Params>
  Described(const char* name, const Op<Params>& op, void (*describe)(Maker&, Params&))
      : Described({name, sizeof(Params),
                   [describe](Maker& m, void* p) { describe(m, *static_cast<Params*>(p)); },
                   [op](const void* p) { return op.supported(static_cast<const Params*>(p)); },
                   [op](const void* p, size_t* bytes) {
                     return op.workspace_size(static_cast<const Params*>(p), bytes);
                   },
                   [op](const void* p, void* workspace, size_t bytes, exn_stream stream) {
                     return op.run(static_cast<const Params*>(p), workspace, bytes, stream);
                   }}) {}

 private:
  explicit Described(const OpUnderTest& op);
};

}  // namespace exn::test
