// SPDX-License-Identifier: Apache-2.0
//
// What callers do wrong, or do in an unusual way. Each way says what it makes of a sound call:
// still sound, broken, or unknown, since that depends on the other arguments.
#include "spoil.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace exn::fuzz {
namespace {

enum class Effect {
  kNone,       // cannot be done to this case
  kSound,      // must still be accepted
  kBroken,     // must be refused
  kBrokenRun,  // must be refused by the run; the other functions do not look
  kUnknown,
};

constexpr int64_t kStrangeSizes[] = {-1,
                                     INT64_MIN,
                                     0,
                                     1,
                                     2,
                                     3,
                                     7,
                                     64,
                                     65,
                                     1 << 20,
                                     INT32_MAX - 1,
                                     INT32_MAX,
                                     int64_t{1} << 31,
                                     int64_t{1} << 32,
                                     (int64_t{1} << 32) + 1,
                                     int64_t{1} << 53,
                                     int64_t{1} << 56,
                                     (int64_t{1} << 56) + 1,
                                     int64_t{1} << 61,
                                     int64_t{1} << 62,
                                     INT64_MAX - 1,
                                     INT64_MAX,
                                     INT64_MAX / 3 + 1,
                                     (int64_t{1} << 62) / 3};

// One of the fields with a tensor that `wanted` takes, or null. What was spoilt before is left
// alone, but that sizes and strides may be wrong together.
template <class Wanted>
TensorField* some_field(Case* c, Wanted&& wanted, bool to_resize = false) {
  TensorField* found[Maker::kMostTensors];
  int count = 0;
  for (int i = 0; i < c->maker.field_count(); ++i) {
    TensorField* f = &c->maker.fields()[i];
    if (f->tensor == nullptr || f->tensor->spoilt || (f->tensor->resized && !to_resize)) continue;
    if (wanted(*f)) found[count++] = f;
  }
  if (count == 0) return nullptr;
  TensorField* f = found[c->maker.random().below(count)];
  (to_resize ? f->tensor->resized : f->tensor->spoilt) = true;
  return f;
}

TensorField* some_field(Case* c) {
  return some_field(c, [](const TensorField&) { return true; });
}

bool has_elements(const TensorField& f) { return f.tensor->elements > 0; }

// ---- tensors ------------------------------------------------------------------------------------

Effect null_tensor(Case* c) {
  TensorField* f = some_field(c);
  if (f == nullptr) return Effect::kNone;
  *f->place = nullptr;
  c->tell("%s is null", f->name);
  return (f->flags & kOptional) != 0 ? Effect::kUnknown : Effect::kBroken;
}

Effect tensor_too_many(Case* c) {
  TensorField* empty[Maker::kMostTensors];
  int count = 0;
  for (int i = 0; i < c->maker.field_count(); ++i) {
    TensorField* f = &c->maker.fields()[i];
    if (f->tensor == nullptr) empty[count++] = f;
  }
  const TensorField* other = some_field(c);
  if (count == 0 || other == nullptr) return Effect::kNone;
  TensorField* f = empty[c->maker.random().below(count)];
  *f->place = &other->tensor->dl;
  c->tell("%s is %s", f->name, other->name);
  return f->absent ? Effect::kBroken : Effect::kUnknown;
}

Effect dtype(Case* c) {
  TensorField* f = some_field(c);
  if (f == nullptr) return Effect::kNone;
  Random& random = c->maker.random();
  DLDataType& t = f->tensor->dl.dtype;
  const DLDataType before = t;
  switch (random.below(4)) {
    case 0:
      t.bits = random.pick<uint8_t>({0, 1, 7, 8, 16, 32, 64, 128, 255});
      break;
    case 1:
      t.lanes = random.pick<uint16_t>({0, 2, 4, 65535});
      break;
    case 2:
      t.code = random.pick<uint8_t>({0, 1, 2, 3, 4, 5, 6, 255});
      break;
    default:
      t = dl_type(static_cast<Type>(random.below(7)));
  }
  if (std::memcmp(&t, &before, sizeof t) == 0) return Effect::kNone;
  c->tell("%s has dtype (%d, %d, %d)", f->name, t.code, t.bits, t.lanes);
  for (int i = 0; i < 7; ++i) {
    const DLDataType known = dl_type(static_cast<Type>(i));
    if ((f->type.allowed >> i & 1) == 0 || std::memcmp(&t, &known, sizeof t) != 0) continue;
    return c->maker.uses_of_type(f->type.symbol) > 1 ? Effect::kBroken : Effect::kUnknown;
  }
  return Effect::kBroken;
}

// The shape now ends at a guard, and claims of more axes than there are lead there.
Effect rank(Case* c) {
  TensorField* f = some_field(c);
  if (f == nullptr) return Effect::kNone;
  DLTensor& t = f->tensor->dl;
  const int32_t before = t.ndim;
  const int32_t ndim = c->maker.random().pick(
      {-1, INT32_MIN, INT32_MAX, 0, 1, 2, 3, 4, 5, before + 1, before - 1, 64, 65, 1 << 30});
  if (ndim == before) return Effect::kNone;
  // Where any rank will do, an op cannot know better than to read as much as it is told.
  const bool readable = (f->flags & kAnyRank) != 0 && ndim > before && ndim <= 64;
  const int32_t axes = readable ? ndim : before;
  const size_t bytes = static_cast<size_t>(axes) * sizeof(int64_t);
  Slot* slot = c->maker.take_slot(bytes);
  int64_t* shape = reinterpret_cast<int64_t*>(slot->begin + slot->bytes - bytes);
  for (int32_t i = 0; i < axes; ++i) shape[i] = i < before ? t.shape[i] : 1;
  t.shape = reinterpret_cast<int64_t*>(slot->read_only + slot->bytes - bytes);
  t.strides = nullptr;
  t.ndim = ndim;
  c->tell("%s has rank %d", f->name, ndim);
  const bool possible = (f->flags & kAnyRank) != 0 && ndim >= 0;
  return possible ? Effect::kUnknown : Effect::kBroken;
}

Effect no_shape(Case* c) {
  TensorField* f = some_field(c, [](const TensorField& g) { return g.rank > 0; });
  if (f == nullptr) return Effect::kNone;
  f->tensor->dl.shape = nullptr;
  c->tell("%s has no shape", f->name);
  return Effect::kBroken;
}

Effect extent(Case* c) {
  TensorField* f = some_field(c, [](const TensorField& g) { return g.rank > 0; }, true);
  if (f == nullptr) return Effect::kNone;
  Random& random = c->maker.random();
  const int64_t axis = random.below(f->rank);
  int64_t& size = f->tensor->shape[axis];
  const int64_t before = size;
  size = random.below(3) == 0 ? before + random.pick({-1, 1}) : random.pick(kStrangeSizes);
  if (size == before) return Effect::kNone;
  c->tell("%s has size %lld in axis %d", f->name, static_cast<long long>(size),
          static_cast<int>(axis));
  if (size < 0) return Effect::kBroken;
  return c->maker.uses_of_size(f->dims[axis].symbol) > 1 ? Effect::kBroken : Effect::kUnknown;
}

// All that have a size get another one: this reaches products of sizes, which may wrap, and passes
// the other checks where the tensors are empty.
Effect size_of_all(Case* c) {
  const auto wanted = [](const TensorField& g) {
    return g.rank > 0 && g.tensor->dl.shape == g.tensor->shape;
  };
  const TensorField* f = some_field(c, wanted, true);
  if (f == nullptr) return Effect::kNone;
  const Dim& dim = f->dims[c->maker.random().below(f->rank)];
  const int64_t size = c->maker.random().pick(kStrangeSizes);
  if (size < 0 || dim.symbol == 0) return Effect::kNone;
  for (int i = 0; i < c->maker.field_count(); ++i) {
    const TensorField& g = c->maker.fields()[i];
    if (g.tensor == nullptr || !wanted(g)) continue;
    for (int axis = 0; axis < g.rank; ++axis) {
      if (g.dims[axis].symbol != dim.symbol) continue;
      g.tensor->shape[axis] = size;
      g.tensor->resized = true;
      g.tensor->dl.strides = nullptr;
    }
  }
  c->tell("%lld is now %lld wherever %s has it", static_cast<long long>(dim.size),
          static_cast<long long>(size), f->name);
  return Effect::kUnknown;
}

Effect stride(Case* c) {
  TensorField* f = some_field(c, [](const TensorField& g) { return g.rank > 0; }, true);
  if (f == nullptr) return Effect::kNone;
  Tensor& t = *f->tensor;
  Random& random = c->maker.random();
  const int axis = static_cast<int>(random.below(f->rank));
  const int64_t before = t.strides[axis];
  t.dl.strides = t.strides;
  t.strides[axis] = random.below(3) == 0 ? before + random.pick({-1, 1, 8})
                    : random.below(2) == 0
                        ? random.pick<int64_t>({0, -1, -before, INT64_MIN, INT64_MIN + 1})
                        : random.pick(kStrangeSizes);
  const int64_t now = t.strides[axis];
  if (now == before) return Effect::kNone;
  c->tell("%s has stride %lld in axis %d", f->name, static_cast<long long>(now), axis);
  if (t.elements == 0 || t.shape[axis] <= 1 || t.shape[0] == 0) return Effect::kUnknown;
  if ((f->flags & kRows) == 0 || axis > 0) return Effect::kBroken;
  const int64_t row = t.elements / t.shape[0];
  if (f->role == Role::kIn) return now < 0 ? Effect::kBroken : Effect::kUnknown;
  return now < row ? Effect::kBroken : Effect::kUnknown;
}

// As other libraries describe a tensor without elements: as if its zeros were ones.
Effect strides_of_empty(Case* c) {
  TensorField* f =
      some_field(c, [](const TensorField& g) { return !has_elements(g) && g.rank > 0; });
  if (f == nullptr) return Effect::kNone;
  Tensor& t = *f->tensor;
  int64_t stride = 1;
  for (int i = f->rank - 1; i >= 0; --i) {
    t.strides[i] = stride;
    stride *= t.shape[i] > 0 ? t.shape[i] : 1;
  }
  t.dl.strides = t.strides;
  c->tell("%s is empty and has usual strides", f->name);
  return Effect::kSound;
}

Effect null_data(Case* c) {
  TensorField* f = some_field(c);
  if (f == nullptr) return Effect::kNone;
  const bool empty = !has_elements(*f);
  f->tensor->dl.data = nullptr;
  c->tell("%s has no data", f->name);
  return empty ? Effect::kSound : Effect::kBroken;
}

Effect misaligned(Case* c) {
  TensorField* f = some_field(
      c, [](const TensorField& g) { return has_elements(g) && g.tensor->dl.dtype.bits > 8; });
  if (f == nullptr) return Effect::kNone;
  f->tensor->dl.byte_offset += 1;
  c->tell("%s is misaligned", f->name);
  return Effect::kBroken;
}

Effect byte_offset(Case* c) {
  TensorField* f = some_field(c, has_elements);
  if (f == nullptr) return Effect::kNone;
  DLTensor& t = f->tensor->dl;
  Random& random = c->maker.random();
  if (random.below(3) == 0) {  // the same place, told in two parts
    t.data = static_cast<char*>(t.data) - 64;
    t.byte_offset += 64;
    c->tell("%s has a byte_offset", f->name);
    return Effect::kSound;
  }
  t.byte_offset = random.pick<uint64_t>({UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 63,
                                         uint64_t{1} << 63, uint64_t{1} << 62, uint64_t{1} << 48,
                                         0 - reinterpret_cast<uint64_t>(t.data),
                                         0 - reinterpret_cast<uint64_t>(t.data) - 64});
  c->tell("%s has byte_offset %llu", f->name, static_cast<unsigned long long>(t.byte_offset));
  uintptr_t begin, end;
  const bool beyond = t.byte_offset + reinterpret_cast<uint64_t>(t.data) < t.byte_offset;
  return beyond || !memory_of(t, &begin, &end) ? Effect::kBroken : Effect::kUnknown;
}

Effect device(Case* c) {
  TensorField* f = some_field(c);
  if (f == nullptr) return Effect::kNone;
  Random& random = c->maker.random();
  DLDevice& d = f->tensor->dl.device;
  if (random.below(2) == 0) {
    d.device_id = random.pick({-1, 1, INT32_MIN, INT32_MAX});
    c->tell("%s has device id %d", f->name, d.device_id);
    return Effect::kBroken;
  }
  const int32_t type = random.pick({0, 1, 2, 3, 13, 77, -1, INT32_MAX, INT32_MIN});
  if (type == c->maker.device_type()) return Effect::kNone;
  std::memcpy(&d.device_type, &type, sizeof type);
  c->tell("%s has device type %d", f->name, type);
  c->may_change_device = true;
  return type == 1 || type == 2 ? Effect::kUnknown : Effect::kBroken;
}

// ---- tensors that share memory ------------------------------------------------------------------

Effect overlap(Case* c) {
  TensorField* out =
      some_field(c, [](const TensorField& g) { return g.role != Role::kIn && has_elements(g); });
  if (out == nullptr) return Effect::kNone;
  const TensorField* other = some_field(c, [&](const TensorField& g) {
    return has_elements(g) && g.tensor->slot != out->tensor->slot;
  });
  if (other == nullptr) return Effect::kNone;
  const TensorField* fields = c->maker.fields();
  const bool may_be_equal = (out->may_equal >= 0 && &fields[out->may_equal] == other) ||
                            (other->may_equal >= 0 && &fields[other->may_equal] == out);
  // Anywhere in the first row of the other, where it has no gap.
  const DLTensor& at = other->tensor->dl;
  const int64_t row = other->tensor->elements / (at.ndim > 0 ? at.shape[0] : 1);
  const int64_t shift = c->maker.random().below(row);
  if (may_be_equal && shift == 0) return Effect::kNone;
  out->tensor->dl.data = static_cast<char*>(at.data) + shift * (at.dtype.bits / 8);
  out->tensor->dl.byte_offset = at.byte_offset;
  c->tell("%s begins %lld elements after the begin of %s", out->name, static_cast<long long>(shift),
          other->name);
  return Effect::kBroken;
}

// The rows of two tensors in turn, as in the two halves of a matrix: they share no element.
Effect interleaved(Case* c) {
  const auto wanted = [](const TensorField& g) {
    return (g.flags & kRows) != 0 && has_elements(g) && g.tensor->shape[0] > 1;
  };
  TensorField* a =
      some_field(c, [&](const TensorField& g) { return wanted(g) && g.role != Role::kIn; });
  if (a == nullptr) return Effect::kNone;
  TensorField* b = some_field(c, [&](const TensorField& g) {
    return wanted(g) && g.tensor->slot != a->tensor->slot &&
           g.tensor->dl.dtype.bits == a->tensor->dl.dtype.bits;
  });
  if (b == nullptr) return Effect::kNone;
  for (int i = 0; i < c->maker.field_count(); ++i) {  // nor a third
    const TensorField& g = c->maker.fields()[i];
    if (g.tensor == nullptr || &g == a || &g == b) continue;
    if (g.tensor->slot == a->tensor->slot || g.tensor->slot == b->tensor->slot)
      return Effect::kNone;
  }
  const auto columns = [](const Tensor& t) { return t.elements / t.shape[0]; };
  const int64_t row = columns(*a->tensor) + columns(*b->tensor);
  const int64_t rows = std::max(a->tensor->shape[0], b->tensor->shape[0]);
  const size_t element = a->tensor->dl.dtype.bits / 8;
  Slot* slot = c->maker.take_slot(static_cast<size_t>(rows * row) * element);
  if (!c->maker.complete()) return Effect::kNone;
  std::memset(slot->begin, Slot::kCanary, slot->bytes);
  size_t at = 0;
  for (TensorField* f : {a, b}) {
    Tensor& t = *f->tensor;
    const size_t bytes = static_cast<size_t>(columns(t)) * element;
    for (int64_t r = 0; r < t.shape[0]; ++r) {
      std::memcpy(slot->begin + at + static_cast<size_t>(r * row) * element,
                  static_cast<char*>(t.dl.data) + static_cast<size_t>(r * t.strides[0]) * element,
                  bytes);
    }
    t.slot = slot;
    t.written = true;
    t.dl.data = slot->begin + at;
    t.strides[0] = row;
    t.dl.strides = t.strides;
    at += bytes;
  }
  c->tell("%s and %s are interleaved", a->name, b->name);
  return Effect::kSound;
}

// ---- entries, scalars, structs ------------------------------------------------------------------

Effect id(Case* c) {
  TensorField* f = some_field(c, [](const TensorField& g) { return g.has_ids && has_elements(g); });
  if (f == nullptr) return Effect::kNone;
  Random& random = c->maker.random();
  const int64_t entry = random.below(f->tensor->elements);
  const int64_t value =
      random.pick<int64_t>({-1, -2, INT32_MIN, INT32_MAX, f->ids.least - 1, f->ids.most + 1,
                            f->ids.most + random.below(1 << 20)});
  if (value != static_cast<int32_t>(value)) return Effect::kNone;
  if (f->tensor->dl.dtype.bits == 64) {
    f->tensor->data<int64_t>()[entry] = value;
  } else {
    f->tensor->data<int32_t>()[entry] = static_cast<int32_t>(value);
  }
  c->tell("%s[%lld] is %lld", f->name, static_cast<long long>(entry),
          static_cast<long long>(value));
  const bool outside = value < f->ids.least || value > f->ids.most;
  return outside && f->ids.strict && c->maker.on_cpu() ? Effect::kBrokenRun : Effect::kUnknown;
}

bool in_domain(double value, Domain domain) {
  switch (domain) {
    case Domain::kPositive:
      return value > 0 && std::isfinite(value);
    case Domain::kNotNegative:
      return value >= 0 && std::isfinite(value);
    case Domain::kFinite:
      return std::isfinite(value);
    case Domain::kNotNan:
      return !std::isnan(value);
    case Domain::kShare:
      return value >= 0 && value <= 1;
    case Domain::kAtLeastOne:
      return value >= 1 && std::isfinite(value);
    case Domain::kZero:
      return value == 0;
    case Domain::kAny:
      return true;
  }
  return true;
}

template <class Integer>
Effect spoilt_integer(Case* c, const ScalarField& s) {
  Random& random = c->maker.random();
  Integer* place = static_cast<Integer*>(s.place);
  const int64_t before = *place;
  int64_t value =
      random.below(3) == 0 ? before + random.pick({-1, 1, 2}) : random.pick(kStrangeSizes);
  if (random.below(4) == 0) value = std::numeric_limits<Integer>::min();
  *place = static_cast<Integer>(value);
  value = *place;
  const bool outside = value < s.least || value > s.most;
  // A count that claims more entries than the array has is not for the library to find out.
  const bool another_case = s.is_mode || (s.in_array >= 0 && value > s.in_array);
  if (value == before || (another_case && !outside)) {
    *place = static_cast<Integer>(before);
    return Effect::kNone;
  }
  c->tell("%s is %lld", s.name, static_cast<long long>(value));
  if (outside) return Effect::kBroken;
  return Effect::kUnknown;
}

template <class Real>
Effect spoilt_real(Case* c, const ScalarField& s) {
  Real* place = static_cast<Real*>(s.place);
  *place = c->maker.random().template pick<Real>(
      {static_cast<Real>(NAN), static_cast<Real>(INFINITY), static_cast<Real>(-INFINITY), 0,
       static_cast<Real>(-0.0), -1, std::numeric_limits<Real>::denorm_min(),
       std::numeric_limits<Real>::max(), std::numeric_limits<Real>::lowest(),
       static_cast<Real>(1e-30), static_cast<Real>(1e30), 1});
  const double value = static_cast<double>(*place);
  c->tell("%s is %g", s.name, value);
  return in_domain(value, s.domain) ? Effect::kUnknown : Effect::kBroken;
}

Effect scalar(Case* c) {
  const int count = c->maker.scalar_count();
  if (count == 0) return Effect::kNone;
  const ScalarField& s = c->maker.scalars()[c->maker.random().below(count)];
  switch (s.kind) {
    case ScalarField::kInt32:
      return spoilt_integer<int32_t>(c, s);
    case ScalarField::kInt64:
      return spoilt_integer<int64_t>(c, s);
    case ScalarField::kFloat:
      return spoilt_real<float>(c, s);
    case ScalarField::kDouble:
      return spoilt_real<double>(c, s);
    case ScalarField::kArray:
      *static_cast<const void**>(s.place) = nullptr;
      c->tell("%s is null", s.name);
      return s.in_array > 0 ? Effect::kBroken : Effect::kSound;
  }
  return Effect::kNone;
}

Effect struct_size(Case* c) {
  Random& random = c->maker.random();
  const size_t known = c->op->params_bytes;
  uint64_t size = random.pick<uint64_t>({0, 1, 8, 31, known - 1, known - 8, known + 1, known + 8,
                                         4096, 4097, 1 << 20, uint64_t{1} << 63, UINT64_MAX});
  // Below what it is now it may be that of an earlier version.
  Effect effect = size >= 32 && size < known ? Effect::kUnknown : Effect::kBroken;
  if (size > known && size <= 4096) {  // of a later version
    const size_t rounded = (size + 7) / 8 * 8;
    Slot* slot = c->maker.take_slot(rounded);
    char* longer = slot->begin + slot->bytes - rounded;
    std::memset(longer, 0, rounded);
    std::memcpy(longer, c->maker.mutable_params(), known);
    std::memcpy(longer, &size, sizeof size);
    effect = Effect::kSound;
    if (random.below(2) == 0) {
      longer[random.between(static_cast<int64_t>(known), static_cast<int64_t>(size) - 1)] = 1;
      effect = Effect::kBroken;
    }
    c->params = slot->read_only + slot->bytes - rounded;
  } else {
    std::memcpy(c->maker.mutable_params(), &size, sizeof size);
  }
  c->tell("struct_size is %llu", static_cast<unsigned long long>(size));
  return effect;
}

Effect no_params(Case* c) {
  if (c->maker.random().below(16) != 0) return Effect::kNone;
  c->params = nullptr;
  c->tell("params is null");
  return Effect::kBroken;
}

Effect workspace(Case* c) {
  c->workspace = c->maker.random().pick(
      {Workspace::kNull, Workspace::kShort, Workspace::kMisaligned, Workspace::kRoomy});
  const char* const names[] = {"exact", "roomy", "null", "a byte short", "misaligned"};
  c->tell("the workspace is %s", names[static_cast<int>(c->workspace)]);
  return Effect::kUnknown;  // until it is known whether the call needs one
}

// What goes wrong together with anything else; the last, which copies the params, only alone.
struct Way {
  Effect (*spoil)(Case*);
  int weight;
};
constexpr Way kWays[] = {
    {null_tensor, 2},      {tensor_too_many, 1}, {dtype, 3},       {rank, 2},
    {no_shape, 1},         {extent, 8},          {size_of_all, 8}, {stride, 5},
    {strides_of_empty, 3}, {null_data, 2},       {misaligned, 1},  {byte_offset, 2},
    {device, 2},           {overlap, 3},         {interleaved, 2}, {id, 8},
    {scalar, 10},          {workspace, 2},       {struct_size, 1}, {no_params, 1}};

const Way& some_way(Random* random) {
  int total = 0;
  for (const Way& way : kWays) total += way.weight;
  int64_t at = random->below(total);
  for (const Way& way : kWays) {
    at -= way.weight;
    if (at < 0) return way;
  }
  return kWays[0];
}

void expect(Case* c, Effect effect) {
  c->must_be_accepted = effect == Effect::kSound;
  c->must_be_refused = effect == Effect::kBroken;
  c->run_must_be_refused = effect == Effect::kBroken || effect == Effect::kBrokenRun;
}

void spoil(Case* c) {
  Random& random = c->maker.random();
  Effect effect = Effect::kNone;
  const Way* first = nullptr;
  for (int tries = 0; tries < 4 && effect == Effect::kNone; ++tries) {
    first = &some_way(&random);
    effect = first->spoil(c);
  }
  if (effect == Effect::kNone) return expect(c, Effect::kSound);
  expect(c, effect);
  if (random.below(3) != 0) return;
  const Way* second = &some_way(&random);
  // Another kind of call may take as many axes as the tensor claims, but has not.
  if ((first->spoil == rank && second->spoil == scalar) ||
      (first->spoil == scalar && second->spoil == rank)) {
    return;
  }
  if (first->spoil == struct_size || first->spoil == no_params || second->spoil == struct_size ||
      second->spoil == no_params || (second == first && first->spoil != size_of_all)) {
    return;
  }
  const Effect other = second->spoil(c);
  if (other == Effect::kNone) return;
  // Two wrongs may make a right: a scalar that says that a broken tensor is not looked at, a size
  // that is as wrong as another. What is left to expect is little.
  const bool both_tensors = first->spoil != scalar && second->spoil != scalar &&
                            first->spoil != null_tensor && second->spoil != null_tensor &&
                            first->spoil != extent && second->spoil != extent &&
                            first->spoil != dtype && second->spoil != dtype;
  if (effect == Effect::kSound && other == Effect::kSound) return;
  const bool broken = effect == Effect::kBroken && other == Effect::kBroken && both_tensors &&
                      first->spoil != null_data && second->spoil != null_data &&
                      first->spoil != overlap && second->spoil != overlap;
  expect(c, broken ? Effect::kBroken : Effect::kUnknown);
}

}  // namespace

void Case::tell(const char* format, ...) {
  const size_t used = std::strlen(story);
  char* at = story + used;
  size_t left = sizeof story - used;
  if (used > 0) {
    std::snprintf(at, left, "; ");
    at += std::strlen(at);
    left = sizeof story - static_cast<size_t>(at - story);
  }
  va_list args;
  va_start(args, format);
  std::vsnprintf(at, left, format, args);
  va_end(args);
}

bool make_case(Case* c, const OpUnderTest& op, Random* random) {
  c->op = &op;
  c->story[0] = 0;
  c->workspace = Workspace::kExact;
  op.describe(c->maker, c->maker.begin(random, op.params_bytes));
  c->params = c->maker.params();
  if (!c->maker.complete()) return false;
  if (random->below(8) == 0) {
    expect(c, Effect::kSound);
  } else {
    spoil(c);
  }
  c->maker.end();
  return c->maker.complete();
}

bool memory_of(const DLTensor& t, uintptr_t* begin, uintptr_t* end) {
  using Wide = __int128;
  const Wide element = t.dtype.bits / 8;
  Wide least = 0, most = 0, compact = 1;
  for (int32_t i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] <= 0) {
      *begin = *end = 0;
      return true;
    }
    const Wide stride = t.strides != nullptr ? Wide{t.strides[i]} : compact;
    const Wide reach = stride * (t.shape[i] - 1);
    (reach < 0 ? least : most) += reach;
    compact *= t.shape[i];
    constexpr Wide kFar = Wide{1} << 70;
    if (compact > kFar || least < -kFar || most > kFar) return false;
  }
  const Wide at = Wide{reinterpret_cast<uintptr_t>(t.data)} + t.byte_offset;
  const Wide from = at + least * element, to = at + (most + 1) * element;
  if (from < 0 || to > Wide{UINTPTR_MAX}) return false;
  *begin = static_cast<uintptr_t>(from);
  *end = static_cast<uintptr_t>(to);
  return true;
}

}  // namespace exn::fuzz
