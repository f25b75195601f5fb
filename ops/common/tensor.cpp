// SPDX-License-Identifier: Apache-2.0
#include "tensor.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace exn::test {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

}  // namespace

DLDataType dl_type(Type type) {
  const uint8_t bits = static_cast<uint8_t>(8 * size_of(type));
  switch (type) {
    case Type::kF64:
    case Type::kF32:
    case Type::kF16:
      return {kDLFloat, bits, 1};
    case Type::kBF16:
      return {kDLBfloat, bits, 1};
    case Type::kI32:
    case Type::kI64:
      return {kDLInt, bits, 1};
    case Type::kU8:
      return {kDLUInt, bits, 1};
  }
  return {};
}

const char* name_of(Type type) {
  switch (type) {
    case Type::kF64:
      return "f64";
    case Type::kF32:
      return "f32";
    case Type::kF16:
      return "f16";
    case Type::kBF16:
      return "bf16";
    case Type::kI32:
      return "i32";
    case Type::kI64:
      return "i64";
    case Type::kU8:
      return "u8";
  }
  return "";
}

uint16_t bf16_from_float(float value) {
  if (std::isnan(value)) return 0x7FC0;
  const uint32_t bits = bits_of(value);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

uint16_t f16_from_float(float value) {
  if (std::isnan(value)) return 0x7E00;
  const uint16_t sign = static_cast<uint16_t>((bits_of(value) >> 16) & 0x8000);
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520) return sign | 0x7C00;
  // Below 2^-14 the spacing is 2^-24, that of floats between a half and one: the
  // sum rounds, ties to even.
  if (magnitude < 0x1p-14f) {
    return static_cast<uint16_t>(sign | (bits_of(magnitude + 0.5f) - bits_of(0.5f)));
  }
  // Above, the lowest 13 bits go, ties to even, and the exponent's bias is 15 instead of 127. A
  // carry out of the mantissa adds one to the exponent.
  const uint32_t bits = bits_of(magnitude) - (112u << 23);
  return static_cast<uint16_t>(sign | ((bits + 0xFFF + ((bits >> 13) & 1)) >> 13));
}

float float_from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t mantissa = bits & 0x3FF;
  if (exponent == 31 && mantissa != 0) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 31) return float_of(sign | 0x7F800000);
  if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(mantissa) * 0x1p-24f));
  return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

double load(const unsigned char* p, Type type) {
  switch (type) {
    case Type::kF64: {
      double v;
      std::memcpy(&v, p, sizeof v);
      return v;
    }
    case Type::kF32: {
      float v;
      std::memcpy(&v, p, sizeof v);
      return static_cast<double>(v);
    }
    case Type::kF16:
    case Type::kBF16: {
      uint16_t v;
      std::memcpy(&v, p, sizeof v);
      return static_cast<double>(type == Type::kF16 ? float_from_f16(v) : float_from_bf16(v));
    }
    case Type::kI32: {
      int32_t v;
      std::memcpy(&v, p, sizeof v);
      return v;
    }
    case Type::kI64: {
      int64_t v;
      std::memcpy(&v, p, sizeof v);
      return static_cast<double>(v);
    }
    case Type::kU8:
      return *p;
  }
  return 0;
}

void store(unsigned char* p, Type type, double value) {
  switch (type) {
    case Type::kF64:
      std::memcpy(p, &value, sizeof value);
      return;
    case Type::kF32: {
      const float v = static_cast<float>(value);
      std::memcpy(p, &v, sizeof v);
      return;
    }
    case Type::kF16:
    case Type::kBF16: {
      const float f = static_cast<float>(value);
      const uint16_t v = type == Type::kF16 ? f16_from_float(f) : bf16_from_float(f);
      std::memcpy(p, &v, sizeof v);
      return;
    }
    default:
      fail("store: not a floating-point type");
  }
}

double rounded_to(Type type, double value) {
  unsigned char bytes[8];
  store(bytes, type, value);
  return load(bytes, type);
}

int64_t HostTensor::integer_at(int64_t index) const {
  const unsigned char* p = bytes.data() + index * size_of(type);
  if (type == Type::kU8) return *p;
  if (type == Type::kI32) {
    int32_t v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  int64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

void HostTensor::set_integer(int64_t index, int64_t value) {
  unsigned char* p = bytes.data() + index * size_of(type);
  if (type == Type::kU8) {
    *p = static_cast<unsigned char>(value);
  } else if (type == Type::kI32) {
    const int32_t v = static_cast<int32_t>(value);
    std::memcpy(p, &v, sizeof v);
  } else {
    std::memcpy(p, &value, sizeof value);
  }
}

std::vector<int64_t> shuffled(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<size_t>(i)],
              order[static_cast<size_t>(pick(seed, stream, i, i + 1))]);
  return order;
}

HostTensor make_tensor(Type type, std::vector<int64_t> shape, int64_t pad, int64_t offset) {
  HostTensor t;
  t.type = type;
  t.offset = offset;
  if (shape.size() == 2) {
    t.rows = shape[0];
    t.cols = shape[1];
  } else {
    t.rows = 1;
    t.cols = 1;
    for (int64_t extent : shape) t.cols *= extent;
  }
  t.stride = t.cols + pad;
  t.shape = std::move(shape);
  const int64_t elements = t.rows == 0 ? 0 : (t.rows - 1) * t.stride + t.cols;
  t.bytes.assign(static_cast<size_t>(elements * size_of(type)), 0x7B);
  if (type == Type::kI32 || type == Type::kI64 || type == Type::kU8 || pad == 0) return t;
  for (int64_t r = 0; r + 1 < t.rows; ++r) {
    for (int64_t c = t.cols; c < t.stride; ++c) t.set(r, c, kNaN);
  }
  return t;
}

HostTensor part_of(const HostTensor& t, int64_t first, int64_t count) {
  const bool is_vector = t.shape.size() == 1;
  const int64_t cols = is_vector ? 1 : t.cols, stride = is_vector ? 1 : t.stride;
  std::vector<int64_t> shape = {count};
  if (!is_vector) shape.push_back(cols);
  HostTensor part = make_tensor(t.type, std::move(shape), stride - cols, t.offset);
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(part.bytes.data() + r * stride * size_of(t.type),
                t.bytes.data() + (first + r) * stride * size_of(t.type),
                static_cast<size_t>(cols * size_of(t.type)));
  }
  return part;
}

namespace {

double smallest_denormal(Type type) {
  switch (type) {
    case Type::kF64:
      return std::numeric_limits<double>::denorm_min();
    case Type::kF16:
      return 0x1p-24;
    case Type::kBF16:
      return 0x1p-133;
    default:
      return 0x1p-149;
  }
}

// Generates one tensor element by element.
class Filler {
 public:
  Filler(const HostTensor& tensor, uint64_t seed, uint64_t stream, const std::string& kind)
      : seed_(seed), stream_(stream), words_(seed, stream), cols_(tensor.cols) {
    static const std::vector<std::string> kinds = {"normal", "wide", "equal",  "zero",  "negzero",
                                                   "ties",   "ints", "ones",   "spike", "outlier",
                                                   "first",  "last", "pair",   "ramp",  "downramp",
                                                   "above",  "two",  "coarse", "twins"};
    for (size_t i = 0; i < kinds.size(); ++i) {
      if (kinds[i] == kind) kind_ = static_cast<int>(i);
    }
    if (kind_ < 0) fail("unknown fill '" + kind + "'");
  }

  void begin_row(int64_t row) {
    row_ = row;
    first_ = pos(0, row);
    second_ = pos(1, row);
  }

  int64_t pos(uint64_t k, int64_t row) const {
    return cols_ == 0
               ? 0
               : static_cast<int64_t>(word(seed_, stream_ + 32 + k, static_cast<uint64_t>(row)) %
                                      static_cast<uint64_t>(cols_));
  }

  float value(int64_t col) const {
    const uint64_t i = static_cast<uint64_t>(row_ * cols_ + col);
    const uint64_t w = words_[i];
    switch (kind_) {
      case 0:
        return bell(w);
      case 1:
        return 10000.0f * (2 * unit(w) - 1);
      case 2:
        return 1.5f;
      case 3:
        return 0.0f;
      case 4:
        return i % 2 ? -0.0f : 0.0f;
      case 5:
        return static_cast<float>((w >> 32) % 5) - 2;
      case 6:
        return static_cast<float>((w >> 32) % 17) - 8;
      case 7:
        return w % 2 ? -1.0f : 1.0f;
      case 8:
        return mix(w) % 64 == 0 ? bell(w) * 64 : bell(w);
      case 9:
        return col == first_ ? 200.0f : bell(w);
      case 10:
        return col == 0 ? 16.0f : bell(w);
      case 11:
        return col == cols_ - 1 ? 16.0f : bell(w);
      case 12:
        return col == first_ || col == second_ ? 16.0f : bell(w);
      case 13:
        return static_cast<float>(col);
      case 14:
        return -static_cast<float>(col);
      case 15:
        return col == first_ ? 1.0f : 0.0f;
      case 16:
        return (w >> 32) % 32 == 0 ? 1.0f : 0.0f;
      case 17:
        return float_of(bits_of(bell(w)) & 0xFFFF0000u);
      default:
        return bell(words_[static_cast<uint64_t>(row_ / 2 * cols_ + col)]);
    }
  }

 private:
  uint64_t seed_, stream_;
  WordStream words_;
  int64_t cols_;
  int64_t row_ = 0, first_ = 0, second_ = 0;
  int kind_ = -1;
};

template <class Store>
void store_all(const std::vector<float>& values, unsigned char* p, Store&& stored) {
  for (float value : values) {
    const auto v = stored(value);
    std::memcpy(p, &v, sizeof v);
    p += sizeof v;
  }
}

void set_row(HostTensor* t, int64_t row, const std::vector<float>& values) {
  unsigned char* const p = t->bytes.data() + row * t->stride * size_of(t->type);
  switch (t->type) {
    case Type::kF64:
      return store_all(values, p, [](float v) { return static_cast<double>(v); });
    case Type::kF32:
      return store_all(values, p, [](float v) { return v; });
    case Type::kF16:
      return store_all(values, p, f16_from_float);
    case Type::kBF16:
      return store_all(values, p, bf16_from_float);
    default:
      fail("fill: not a floating-point type");
  }
}

void apply_special(HostTensor* t, int64_t row, int64_t column, const std::string& special) {
  const int64_t last = t->cols - 1;
  if (special == "nan") return t->set(row, column, kNaN);
  if (special == "pinf") return t->set(row, column, kInf);
  if (special == "ninf") return t->set(row, column, -kInf);
  if (special == "nan_first") return t->set(row, 0, kNaN);
  if (special == "nan_last") return t->set(row, last, kNaN);
  if (special == "pinf_last") return t->set(row, last, kInf);
  if (special == "ninf_last") return t->set(row, last, -kInf);
  const bool all = special == "allninf", nan = special == "onlyone_nan_last";
  if (!all && !nan && special != "onlyone") fail("unknown special '" + special + "'");
  for (int64_t c = 0; c < t->cols; ++c) {
    if (all || c != column) t->set(row, c, -kInf);
  }
  if (nan) t->set(row, last, kNaN);
}

int64_t special_column(const HostTensor& t, uint64_t seed, uint64_t stream, int64_t row) {
  return static_cast<int64_t>(word(seed, stream + 34, static_cast<uint64_t>(row)) %
                              static_cast<uint64_t>(t.cols));
}

void fill_denormals(HostTensor* t, uint64_t seed, uint64_t stream) {
  const double step = smallest_denormal(t->type);
  for (int64_t r = 0; r < t->rows; ++r) {
    for (int64_t c = 0; c < t->cols; ++c) {
      const uint64_t w = word(seed, stream, static_cast<uint64_t>(r * t->cols + c));
      const double magnitude = static_cast<double>(1 + (w >> 32) % 8) * step;
      t->set(r, c, w % 2 ? -magnitude : magnitude);
    }
  }
}

}  // namespace

void fill_special(HostTensor* t, uint64_t seed, uint64_t stream, const std::string& special) {
  if (special == "-" || t->size() == 0) return;
  for (int64_t r = 0; r < t->rows; ++r) {
    if (r % 3 == 1 || t->rows == 1) {
      apply_special(t, r, special_column(*t, seed, stream, r), special);
    }
  }
}

void fill(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind, float scale,
          const std::string& special) {
  if (kind == "denormal") {
    fill_denormals(tensor, seed, stream);
  } else {
    Filler filler(*tensor, seed, stream, kind);
    std::vector<float> row(static_cast<size_t>(tensor->cols));
    for (int64_t r = 0; r < tensor->rows; ++r) {
      filler.begin_row(r);
      for (int64_t c = 0; c < tensor->cols; ++c) {
        row[static_cast<size_t>(c)] = filler.value(c) * scale;
      }
      set_row(tensor, r, row);
    }
  }
  fill_special(tensor, seed, stream, special);
}

bool derive(const HostTensor& a, const std::string& relation, uint64_t seed, float scale,
            HostTensor* b) {
  const bool known = relation == "parallel" || relation == "parallel3" ||
                     relation == "orthogonal" || relation == "nearly" || relation == "equal" ||
                     relation == "negated" || relation == "scaled" || relation == "near";
  if (!known) return false;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.cols; ++c) {
      const float v = static_cast<float>(a.at(r, c));
      const uint64_t w = word(seed, 1, static_cast<uint64_t>(r * a.cols + c));
      float out = v;
      if (relation == "parallel" || relation == "scaled") out = 0.5f * v;
      if (relation == "parallel3") out = 3.0f * v;
      if (relation == "negated") out = -v;
      if (relation == "nearly") out = 0.5f * v + bell(w) * 0x1p-10f;
      if (relation == "near") out = v + bell(w) * 0x1p-6f;
      if (relation == "orthogonal") {
        const int64_t partner = c ^ 1;
        out = partner >= a.cols ? 0.0f
                                : static_cast<float>(a.at(r, partner)) * (c % 2 ? -1.0f : 1.0f);
      }
      b->set(r, c, static_cast<double>(out * scale));
    }
  }
  return true;
}

}  // namespace exn::test
