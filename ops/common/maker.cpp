// SPDX-License-Identifier: Apache-2.0
#include "maker.h"

#include <algorithm>

namespace exn::test {
namespace {

// A bit pattern whose numbers are neither tiny nor large: a sign, an exponent close to that of 1
// and a random mantissa.
uint64_t tame(Type type, uint64_t bits) {
  switch (type) {
    case Type::kF32: {
      constexpr uint64_t kKeep = 0x81ffffff, kBase = 0x3e000000;
      return (bits & (kKeep | kKeep << 32)) | kBase | kBase << 32;
    }
    case Type::kBF16:
      return (bits & 0x81ff81ff81ff81ff) | 0x3e003e003e003e00;
    case Type::kF16:
      return (bits & 0x8fff8fff8fff8fff) | 0x3000300030003000;
    case Type::kF64:
      return (bits & 0x803fffffffffffff) | 0x3fc0000000000000;
    default:
      return bits;
  }
}

// NaN with a payload, infinities, zeros, the least and the largest numbers.
uint64_t odd(Type type, Random& random) {
  const uint64_t sign = random.bits() & 1;
  const int which = static_cast<int>(random.below(6));
  if (type == Type::kF64) {
    const uint64_t values[] = {0x7ff0000000000000, 0x7ff8000000000123, 0, 1,
                               0x7fefffffffffffff, 0x7ff0000000000001};
    return values[which] | sign << 63;
  }
  if (type == Type::kF32) {
    const uint64_t values[] = {0x7f800000, 0x7fc00123, 0, 1, 0x7f7fffff, 0x7f800001};
    return values[which] | sign << 31;
  }
  const uint64_t bf16[] = {0x7f80, 0x7fc1, 0, 1, 0x7f7f, 0x7f81};
  const uint64_t f16[] = {0x7c00, 0x7e01, 0, 1, 0x7bff, 0x7c01};
  return (type == Type::kBF16 ? bf16[which] : f16[which]) | sign << 15;
}

std::vector<OpUnderTest>& described_ops() {
  static std::vector<OpUnderTest> all;
  return all;
}

}  // namespace

const std::vector<OpUnderTest>& ops_under_test() { return described_ops(); }

Described::Described(const OpUnderTest& op) {
  std::vector<OpUnderTest>& all = described_ops();
  const auto before = [](const OpUnderTest& a, const OpUnderTest& b) {
    return std::strcmp(a.name, b.name) < 0;
  };
  all.insert(std::upper_bound(all.begin(), all.end(), op, before), op);
}

void* Maker::begin_sample(const Named& wanted, size_t bytes) {
  sample_random_ = Random(1, 0);
  void* params = begin(&sample_random_, bytes);
  wanted_ = &wanted;
  return params;
}

void* Maker::begin(Random* random, size_t bytes) {
  random_ = random;
  wanted_ = nullptr;
  sizes_.clear();
  choices_.clear();
  memory_->reset();
  out_of_room_ = false;
  symbols_ = field_count_ = scalar_count_ = tensor_count_ = 0;
  std::memset(size_uses_, 0, sizeof size_uses_);
  std::memset(type_uses_, 0, sizeof type_uses_);
  Slot* slot = take_slot(bytes);
  params_ = slot->begin + slot->bytes - bytes;
  params_read_only_ = slot->read_only + slot->bytes - bytes;
  std::memset(params_, 0, bytes);
  const uint64_t size = bytes;
  std::memcpy(params_, &size, sizeof size);
  return params_;
}

void Maker::end() {
  for (int i = 0; i < tensor_count_; ++i) {
    const Slot& slot = *tensors_[i].slot;
    if (tensors_[i].written) std::memcpy(slot.before, slot.begin, slot.bytes);
  }
}

// Cases that want more than there is are rare: they get what is there twice, and are dropped.
Slot* Maker::take_slot(size_t bytes) {
  Slot* slot = memory_->take(bytes);
  if (slot != nullptr) return slot;
  out_of_room_ = true;
  memory_->reset();
  slot = memory_->take(bytes);
  return slot != nullptr ? slot : memory_->take(1);
}

int64_t Maker::drawn(int64_t least, int64_t usual, int64_t most) {
  const int64_t choice = random().below(32);
  const int64_t upper = choice == 31 ? most : usual;
  return choice < 3 ? least : random().between(least, upper);
}

int64_t Maker::size(const char* name, int64_t drawn) {
  if (wanted_ == nullptr) return drawn;
  const auto found = wanted_->find(name);
  return sizes_[name] = found != wanted_->end() ? found->second : drawn;
}

int32_t Maker::one_of(const char* name, int32_t first, int32_t last) {
  if (wanted_ == nullptr) return static_cast<int32_t>(random().between(first, last));
  return chosen(name, first, last, last);
}

int32_t Maker::chosen(const char* name, int32_t first, int32_t last, int32_t usual) {
  const auto found = wanted_->find(name);
  const int32_t value = found != wanted_->end() ? static_cast<int32_t>(found->second) : usual;
  choices_.push_back({name, first, last, value});
  return value;
}

TypeOf Maker::type(DTypes allowed) {
  Type types[7];
  int count = 0;
  for (int i = 0; i < 7; ++i) {
    if ((allowed >> i & 1) != 0) types[count++] = static_cast<Type>(i);
  }
  DTypes wanted = 0;
  if (wanted_ != nullptr) {
    const auto named = wanted_->find("dtype");
    if (named != wanted_->end()) wanted = allowed & only(static_cast<Type>(named->second));
    if (wanted == 0) wanted = allowed & only(Type::kF32);
  }
  const Type type =
      wanted != 0 ? static_cast<Type>(__builtin_ctz(wanted)) : types[random().below(count)];
  return {type, allowed, ++symbols_};
}

TensorField* Maker::added(const DLTensor*& field, const char* name) {
  if (field_count_ == kMostTensors) __builtin_trap();  // a description with too many fields
  TensorField* f = &fields_[field_count_++];
  *f = {};
  f->name = name;
  f->place = &field;
  f->may_equal = -1;
  return f;
}

Tensor* Maker::tensor(const DLTensor*& field, const char* name, Role role, TypeOf type,
                      std::initializer_list<Dim> dims, unsigned flags) {
  TensorField* f = added(field, name);
  f->role = role;
  f->type = type;
  f->flags = flags;
  for (const Dim& dim : dims) f->dims[f->rank++] = dim;
  field = nullptr;
  const bool by_chance =
      wanted_ == nullptr && (flags & (kOptional | kWanted | kNever)) == kOptional;
  if ((flags & kNever) != 0 || (by_chance && random().below(3) == 0)) return nullptr;

  Tensor* t = &tensors_[tensor_count_++];
  f->tensor = t;
  if (symbols_ >= kMostSymbols) __builtin_trap();
  ++type_uses_[type.symbol];
  t->written = role != Role::kIn;
  t->resized = t->spoilt = false;
  t->elements = 1;
  int64_t row = 1;
  for (int i = f->rank - 1; i >= 0; --i) {
    ++size_uses_[f->dims[i].symbol];
    t->shape[i] = f->dims[i].size;
    t->strides[i] = t->elements;
    if (i == 0) row = t->elements;
    t->elements = times(t->elements, t->shape[i]);
  }
  int64_t span = t->elements;
  bool has_strides = random().below(2) == 0;
  if (wanted_ == nullptr && (flags & kRows) != 0 && t->shape[0] > 1 && t->elements > 0 &&
      random().below(3) == 0) {
    t->strides[0] = row + random().between(1, 9);
    span = t->strides[0] * (t->shape[0] - 1) + row;
    has_strides = true;
  }
  const size_t bytes = static_cast<size_t>(times(span, size_of(type.type)));
  t->slot = take_slot(bytes);
  // Against one guard or the other: after the front one the data are aligned as well as can be.
  const bool at_back = random().below(4) != 0 || bytes > t->slot->bytes;
  const size_t at = at_back && bytes <= t->slot->bytes ? t->slot->bytes - bytes : 0;
  if (t->written) std::memset(t->slot->begin, Slot::kCanary, t->slot->bytes);
  char* data = t->slot->view(t->written) + at;
  t->dl = {data,     {static_cast<DLDeviceType>(device_type_), 0}, f->rank, dl_type(type.type),
           t->shape, has_strides ? t->strides : nullptr,           0};
  // A share of the empty ones have no memory at all, as is usual.
  if (bytes == 0 && random().below(2) == 0) t->dl.data = nullptr;
  if (bytes == 0 || bytes > t->slot->bytes) return field = &t->dl, t;
  if (role != Role::kOut) fill(t, type.type);
  field = &t->dl;
  return t;
}

const BlockFormat* Maker::drawn_format(bool panels) {
  const std::vector<BlockFormat>&blocks = block_formats(), &others = panel_formats();
  const auto formats = static_cast<int64_t>(blocks.size());
  const int64_t all = formats + (panels ? static_cast<int64_t>(others.size()) : 0);
  const int64_t which = wanted_ != nullptr ? chosen("blocks", 0, 0, 0) : random().below(2 * all);
  if (which < 1 || which > all) return nullptr;
  return which <= formats ? &blocks[static_cast<size_t>(which - 1)]
                          : &others[static_cast<size_t>(which - 1 - formats)];
}

const BlockFormat* Maker::drawn_format_as(const BlockFormat* first) {
  if (wanted_ != nullptr || random().below(2) == 0) return first;
  const std::vector<BlockFormat>& all = block_formats();
  return &all[static_cast<size_t>(random().below(static_cast<int64_t>(all.size())))];
}

Dim Maker::columns(std::initializer_list<const BlockFormat*> blocks, const char* name,
                   int64_t least, int64_t usual, int64_t most) {
  int64_t each = 0;
  for (const BlockFormat* format : blocks) {
    if (format != nullptr) each = std::max(each, format->elements);
  }
  if (each <= 1) return dim(name, least, usual, most);
  if (wanted_ != nullptr) return derived(size(name, each));
  return derived(times(each, drawn(1, 2, std::max<int64_t>(2, most / each))));
}

Tensor* Maker::weights(const DLTensor*& field, const char* name, const BlockFormat* blocks,
                       TypeOf type, std::initializer_list<Dim> dims, unsigned flags) {
  if (blocks == nullptr) return in(field, name, type, dims, flags);
  const int index = field_count_;
  if (in_panels(blocks->tag)) flags &= ~static_cast<unsigned>(kRows);
  const Dim* const axes = dims.begin();
  const int64_t columns = axes[dims.size() - 1].size;
  const Dim bytes = derived(times(columns / blocks->elements, blocks->bytes));
  ++size_uses_[bytes.symbol];  // it follows from another size, and may not change alone
  Tensor* t = dims.size() == 2 ? in(field, name, kU8, {axes[0], bytes}, flags)
                               : in(field, name, kU8, {axes[0], axes[1], bytes}, flags);
  fields_[index].blocks = blocks;
  return t;
}

void Maker::fill(Tensor* t, Type type) {
  const size_t element = static_cast<size_t>(size_of(type));
  // All of the memory from the first element to the last, gaps too: they are no part of it.
  const int64_t rows = t->dl.ndim > 0 ? t->shape[0] : 1;
  const int64_t row = rows > 0 ? t->elements / rows : 0;
  const size_t span =
      static_cast<size_t>(rows > 1 ? t->strides[0] * (rows - 1) + row : t->elements) * element;
  char* data = t->data<char>();
  Random words(random().bits(), 1);  // libFuzzer's bytes are for better things
  for (size_t i = 0; i < span; i += 8) {
    const uint64_t word = tame(type, words.bits());
    std::memcpy(data + i, &word, span - i < 8 ? span - i : 8);
  }
  const bool is_float = (kFloatsAndF64 & only(type)) != 0;
  if (!is_float || random().below(8) != 0) return;
  for (int64_t i = random().between(1, 3); i > 0; --i) {
    const uint64_t value = odd(type, random());
    const int64_t at = random().below(static_cast<int64_t>(span / element));
    std::memcpy(data + static_cast<size_t>(at) * element, &value, element);
  }
}

int32_t* Maker::integers(const DLTensor*& field, const char* name, Role role,
                         std::initializer_list<Dim> dims, unsigned flags) {
  Tensor* t = tensor(field, name, role, kI32, dims, flags);
  if (t == nullptr) return nullptr;
  int32_t* entries = t->data<int32_t>();
  if (t->dl.data == nullptr || out_of_room_) return reinterpret_cast<int32_t*>(t->slot->begin);
  std::memset(entries, 0, static_cast<size_t>(t->elements) * sizeof *entries);
  return entries;
}

int32_t* Maker::ids(const DLTensor*& field, const char* name, std::initializer_list<Dim> dims,
                    Ids ids, unsigned flags) {
  int32_t* entries = integers(field, name, Role::kIn, dims, flags);
  TensorField& f = fields_[field_count_ - 1];
  f.has_ids = true;
  f.ids = ids;
  if (entries == nullptr) return nullptr;
  const int64_t most = std::min(ids.most, kMost32);
  for (int64_t i = 0; i < f.tensor->elements && complete(); ++i)
    entries[i] = static_cast<int32_t>(random().between(ids.least, most));
  return entries;
}

Tensor* Maker::out_over(const DLTensor*& field, const char* name, const Tensor* input, TypeOf type,
                        std::initializer_list<Dim> dims, unsigned flags) {
  Tensor* out = tensor(field, name, Role::kOut, type, dims, flags);
  if (out == nullptr || input == nullptr) return out;
  TensorField* over = nullptr;
  for (int i = 0; i < field_count_ - 1; ++i) {
    if (fields_[i].tensor == input) over = &fields_[i];
  }
  fields_[field_count_ - 1].may_equal = static_cast<int>(over - fields_);
  Tensor* in = over->tensor;
  const bool alike =
      std::memcmp(&in->dl.dtype, &out->dl.dtype, sizeof in->dl.dtype) == 0 &&
      in->dl.ndim == out->dl.ndim &&
      std::memcmp(in->shape, out->shape, static_cast<size_t>(in->dl.ndim) * sizeof *in->shape) == 0;
  if (!alike || in->elements == 0 || in->dl.data == nullptr || !some("in_place", 3)) return out;
  // What lies around an input is no canary, but it must not change either.
  in->dl.data = in->slot->begin + in->offset();
  in->written = true;
  out->slot = in->slot;
  out->dl.data = in->dl.data;
  std::memcpy(out->strides, in->strides, sizeof out->strides);
  out->dl.strides = out->strides;
  return out;
}

void Maker::again(const DLTensor*& field, const char* name, const Tensor* of) {
  TensorField* f = added(field, name);
  for (int i = 0; i < field_count_ - 1; ++i) {
    if (fields_[i].tensor != of) continue;
    *f = fields_[i];
    f->name = name;
    f->place = &field;
    f->role = Role::kIn;
    f->may_equal = i;
    break;
  }
  field = &of->dl;
}

ScalarField* Maker::scalar(ScalarField::Kind kind, void* place, const char* name, int64_t least,
                           int64_t most) {
  if (scalar_count_ == kMostScalars) __builtin_trap();
  ScalarField* s = &scalars_[scalar_count_++];
  *s = {kind, name, place, least, most, Domain::kAny, -1, false, false, nullptr};
  return s;
}

template <class Real>
void Maker::number(Real* field, const char* name, Domain domain) {
  const double choices[] = {1, 0.5, 0.125, 2, 30, 1e-5, 0, -1};
  const bool may_be_negative =
      domain == Domain::kFinite || domain == Domain::kNotNan || domain == Domain::kAny;
  double value = choices[random().below(may_be_negative ? 8 : domain == Domain::kPositive ? 6 : 7)];
  if (domain == Domain::kShare && value > 1) value = 0.75;
  if (domain == Domain::kAtLeastOne && value < 1) value = 1;
  if (domain == Domain::kZero) value = 0;
  *field = static_cast<Real>(value);
  const auto kind = sizeof *field == 4 ? ScalarField::kFloat : ScalarField::kDouble;
  scalar(kind, field, name, 0, 0)->domain = domain;
}

template void Maker::number<float>(float*, const char*, Domain);
template void Maker::number<double>(double*, const char*, Domain);

const TensorField* Maker::field_of(const Slot* slot) const {
  for (int i = 0; i < field_count_; ++i) {
    if (fields_[i].tensor != nullptr && fields_[i].tensor->slot == slot) return &fields_[i];
  }
  return nullptr;
}

}  // namespace exn::test
