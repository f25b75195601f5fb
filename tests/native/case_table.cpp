// SPDX-License-Identifier: Apache-2.0
#include "case_table.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
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

float float_from_bf16(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16); }

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
      : seed_(seed), stream_(stream), cols_(tensor.cols) {
    static const std::vector<std::string> kinds = {"normal", "wide", "equal", "zero",  "negzero",
                                                   "ties",   "ints", "ones",  "spike", "outlier",
                                                   "first",  "last", "pair",  "ramp",  "downramp",
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
    const uint64_t w = word(seed_, stream_, i);
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
        return bell(word(seed_, stream_, static_cast<uint64_t>(row_ / 2 * cols_ + col)));
    }
  }

 private:
  uint64_t seed_, stream_;
  int64_t cols_;
  int64_t row_ = 0, first_ = 0, second_ = 0;
  int kind_ = -1;
};

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

void fill_special(HostTensor* t, uint64_t seed, uint64_t stream, const std::string& special) {
  if (special == "-" || t->size() == 0) return;
  for (int64_t r = 0; r < t->rows; ++r) {
    if (r % 3 == 1 || t->rows == 1) {
      apply_special(t, r, special_column(*t, seed, stream, r), special);
    }
  }
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

void fill(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind, float scale,
          const std::string& special) {
  if (kind == "denormal") {
    fill_denormals(tensor, seed, stream);
  } else {
    Filler filler(*tensor, seed, stream, kind);
    for (int64_t r = 0; r < tensor->rows; ++r) {
      filler.begin_row(r);
      for (int64_t c = 0; c < tensor->cols; ++c) {
        tensor->set(r, c, static_cast<double>(filler.value(c) * scale));
      }
    }
  }
  fill_special(tensor, seed, stream, special);
}

// ---- tables -------------------------------------------------------------------------------------

const std::string& Row::text(const char* column) const {
  for (size_t i = 0; i < columns_->size(); ++i) {
    if ((*columns_)[i] == column) return fields_[i];
  }
  fail(std::string("no column '") + column + "'");
}

int64_t Row::integer(const char* column) const {
  const std::string& field = text(column);
  char* end = nullptr;
  const int64_t value = std::strtoll(field.c_str(), &end, 10);
  if (*end != '\0') fail(std::string(column) + ": '" + field + "' is no integer");
  return value;
}

float Row::number(const char* column) const {
  const std::string& field = text(column);
  char* end = nullptr;
  const float value = std::strtof(field.c_str(), &end);
  if (*end != '\0') fail(std::string(column) + ": '" + field + "' is no number");
  return value;
}

bool Row::flag(const char* column) const { return choice(column, {"0", "1"}) == 1; }

Type Row::type(const char* column) const {
  const std::string& field = text(column);
  for (Type t : {Type::kF64, Type::kF32, Type::kF16, Type::kBF16, Type::kI32, Type::kI64}) {
    if (field == name_of(t)) return t;
  }
  fail(std::string(column) + ": '" + field + "' is no dtype");
}

int32_t Row::choice(const char* column, const std::vector<const char*>& words) const {
  const std::string& field = text(column);
  for (size_t i = 0; i < words.size(); ++i) {
    if (field == words[i]) return static_cast<int32_t>(i);
  }
  fail(std::string(column) + ": unknown word '" + field + "'");
}

uint32_t Row::subset(const char* column, const std::vector<const char*>& words) const {
  const std::string& field = text(column);
  if (field == "all") return (1u << words.size()) - 1;
  uint32_t bits = 0;
  std::stringstream list(field);
  for (std::string part; std::getline(list, part, ',');) {
    uint32_t bit = 0;
    for (size_t i = 0; i < words.size(); ++i) {
      if (part == words[i]) bit = 1u << i;
    }
    if (bit == 0) fail(std::string(column) + ": unknown word '" + part + "'");
    bits |= bit;
  }
  return bits;
}

namespace {

std::vector<std::string> fields_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> fields;
  for (std::string field; stream >> field;) fields.push_back(field);
  return fields;
}

}  // namespace

void read_table(const std::string& directory, const std::string& op,
                const std::vector<const char*>& columns, Table* table) {
  const std::string path = directory + "/" + op + ".tsv";
  std::ifstream file(path);
  if (!file) fail("cannot read " + path);
  std::set<std::string> ids;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields = fields_of(line);
    if (fields.empty() || fields[0][0] == '#') continue;
    if (table->columns.empty()) {
      table->columns = fields;
      if (fields != std::vector<std::string>(columns.begin(), columns.end())) {
        fail(path + ": unexpected columns");
      }
      continue;
    }
    if (fields.size() != table->columns.size()) {
      fail(path + ": wrong number of fields in '" + line + "'");
    }
    if (!ids.insert(fields[0]).second) fail(path + ": '" + fields[0] + "' appears twice");
    table->rows.emplace_back(&table->columns, std::move(fields));
  }
}

const char* const kStatNames[kStats] = {"argmax",     "max_logit", "lse",     "p1",
                                        "p2",         "margin",    "entropy", "pow2_entropy",
                                        "mean_log_p", "valid"};

namespace {

const std::vector<const char*> kStatWords(kStatNames, kStatNames + kStats);
const std::vector<const char*> kNormalizers = {"softmax", "stablemax"};

void read_base(const Row& row, CaseBase* c) {
  c->id = row.text("id");
  c->seed = static_cast<uint64_t>(row.integer("seed"));
  if (row.text("tags") == "-") return;
  const uint32_t tags = row.subset("tags", {"small", "exact", "big", "bench"});
  c->small = tags & 1;
  c->exact = tags & 2;
  c->big = tags & 4;
  c->bench = tags & 8;
}

MatrixSpec read_matrix(const Row& row, const char* cols = "cols") {
  MatrixSpec m;
  m.rows = row.integer("rows");
  m.cols = row.integer(cols);
  m.type = row.type("dtype");
  m.pad = row.integer("pad");
  m.offset = row.integer("offset");
  m.fill = row.text("fill");
  m.scale = row.number("scale");
  m.special = row.text("special");
  return m;
}

HostTensor make_matrix(const MatrixSpec& m, uint64_t seed, uint64_t stream) {
  HostTensor t = make_tensor(m.type, {m.rows, m.cols}, m.pad, m.offset);
  fill(&t, seed, stream, m.fill, m.scale, m.special);
  return t;
}

// shift + bell * scale, in f32. The product and the sum are exact for the scales in use.
HostTensor make_bell(Type type, std::vector<int64_t> shape, uint64_t seed, uint64_t stream,
                     float scale, float shift = 0) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) {
    const float v = bell(word(seed, stream, static_cast<uint64_t>(i))) * scale + shift;
    t.set(i / t.cols, i % t.cols, static_cast<double>(v));
  }
  return t;
}

template <class Case, class Read>
std::vector<Case> read_cases(const std::string& directory, const char* op,
                             const std::vector<const char*>& columns, Read read) {
  Table table;
  read_table(directory, op, columns, &table);
  std::vector<Case> cases;
  for (const Row& row : table.rows) {
    Case c;
    read_base(row, &c);
    try {
      read(row, &c);
    } catch (const std::runtime_error& e) {
      fail(std::string(op) + " " + c.id + ": " + e.what());
    }
    cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace

std::vector<RowStatsCase> row_stats_cases(const std::string& directory) {
  return read_cases<RowStatsCase>(
      directory, "row_stats",
      {"id", "rows", "cols", "dtype", "pad", "offset", "fill", "scale", "special", "normalizer",
       "temperature", "softcap", "outputs", "seed", "tags"},
      [](const Row& row, RowStatsCase* c) {
        c->logits = read_matrix(row);
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->temperature = row.number("temperature");
        c->softcap = row.number("softcap");
        c->outputs = row.subset("outputs", kStatWords);
      });
}

std::vector<ExitHeadCase> exit_head_cases(const std::string& directory) {
  return read_cases<ExitHeadCase>(
      directory, "exit_head",
      {"id",
       "rows",
       "dim",
       "vocab",
       "hidden",
       "hidden_pad",
       "hidden_offset",
       "hidden_fill",
       "hidden_scale",
       "special",
       "weight",
       "weight_pad",
       "weight_offset",
       "weight_fill",
       "weight_scale",
       "bias",
       "norm",
       "norm_eps",
       "norm_bias",
       "translator",
       "translator_pad",
       "translate",
       "translator_bias",
       "shortlist",
       "normalizer",
       "temperature",
       "softcap",
       "outputs",
       "seed",
       "tags"},
      [](const Row& row, ExitHeadCase* c) {
        c->hidden = {row.integer("rows"),          row.integer("dim"),
                     row.type("hidden"),           row.integer("hidden_pad"),
                     row.integer("hidden_offset"), row.text("hidden_fill"),
                     row.number("hidden_scale"),   row.text("special")};
        c->weight = {row.integer("vocab"),         row.integer("dim"),
                     row.type("weight"),           row.integer("weight_pad"),
                     row.integer("weight_offset"), row.text("weight_fill"),
                     row.number("weight_scale"),   "-"};
        c->bias = row.text("bias");
        c->norm = row.choice("norm", {"none", "rms", "layer"});
        c->norm_eps = row.number("norm_eps");
        c->norm_bias = row.flag("norm_bias");
        c->translator = row.text("translator") != "-";
        if (c->translator) c->translator_type = row.type("translator");
        c->translator_pad = row.integer("translator_pad");
        c->translate = row.choice("translate", {"raw", "rms"});
        c->translator_bias = row.flag("translator_bias");
        const std::string& list = row.text("shortlist");
        if (list != "-") {
          char* end = nullptr;
          c->shortlist = std::strtoll(list.c_str(), &end, 10);
          c->shortlist_descending = std::string(end) == ":desc";
          if (c->shortlist <= 0 || (*end != '\0' && !c->shortlist_descending)) {
            fail("shortlist: '" + list + "'");
          }
        }
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->temperature = row.number("temperature");
        c->softcap = row.number("softcap");
        c->outputs = row.subset("outputs", kStatWords);
      });
}

std::vector<StableMaxCase> stablemax_cases(const std::string& directory) {
  return read_cases<StableMaxCase>(
      directory, "stablemax",
      {"id", "rows", "cols", "dtype", "pad", "offset", "out_pad", "out_offset", "fill", "scale",
       "special", "normalizer", "log", "in_place", "seed", "tags"},
      [](const Row& row, StableMaxCase* c) {
        c->logits = read_matrix(row);
        c->out_pad = row.integer("out_pad");
        c->out_offset = row.integer("out_offset");
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->log = row.flag("log");
        c->in_place = row.flag("in_place");
      });
}

std::vector<CrossEntropyCase> cross_entropy_cases(const std::string& directory) {
  return read_cases<CrossEntropyCase>(
      directory, "cross_entropy",
      {"id",          "rows",      "cols",    "dtype",    "pad",         "offset", "grad_pad",
       "grad_offset", "fill",      "scale",   "special",  "label_dtype", "labels", "ignore_index",
       "normalizer",  "reduction", "outputs", "in_place", "seed",        "tags"},
      [](const Row& row, CrossEntropyCase* c) {
        c->logits = read_matrix(row);
        c->grad_pad = row.integer("grad_pad");
        c->grad_offset = row.integer("grad_offset");
        c->label_type = row.type("label_dtype");
        c->labels = row.text("labels");
        c->ignore_index = row.integer("ignore_index");
        c->normalizer = row.choice("normalizer", kNormalizers);
        c->reduction = row.choice("reduction", {"none", "mean"});
        const uint32_t outputs = row.subset("outputs", {"loss", "grad"});
        c->loss = outputs & 1;
        c->grad = outputs & 2;
        c->in_place = row.flag("in_place");
      });
}

std::vector<PerpGradCase> perp_grad_cases(const std::string& directory) {
  return read_cases<PerpGradCase>(
      directory, "perp_grad",
      {"id", "shape", "dtype", "offset", "weight_fill", "weight_scale", "grad_fill", "grad_scale",
       "special", "form", "in_place", "seed", "tags"},
      [](const Row& row, PerpGradCase* c) {
        std::stringstream shape(row.text("shape"));
        for (std::string extent; std::getline(shape, extent, 'x');) {
          c->shape.push_back(std::stoll(extent));
        }
        c->type = row.type("dtype");
        c->offset = row.integer("offset");
        c->weight_fill = row.text("weight_fill");
        c->weight_scale = row.number("weight_scale");
        c->grad_fill = row.text("grad_fill");
        c->grad_scale = row.number("grad_scale");
        c->special = row.text("special");
        c->form = row.choice("form", {"code", "paper"});
        c->in_place = row.flag("in_place");
      });
}

std::vector<CosineCase> cosine_cases(const std::string& directory) {
  return read_cases<CosineCase>(
      directory, "cosine",
      {"id", "rows", "cols", "dtype", "pad_a", "offset_a", "pad_b", "offset_b", "fill", "scale_a",
       "relation", "scale_b", "special", "seed", "tags"},
      [](const Row& row, CosineCase* c) {
        c->a = {row.integer("rows"),   row.integer("cols"),     row.type("dtype"),
                row.integer("pad_a"),  row.integer("offset_a"), row.text("fill"),
                row.number("scale_a"), row.text("special")};
        c->pad_b = row.integer("pad_b");
        c->offset_b = row.integer("offset_b");
        c->relation = row.text("relation");
        c->scale_b = row.number("scale_b");
      });
}

std::vector<GateCase> gate_cases(const std::string& directory) {
  return read_cases<GateCase>(
      directory, "gate",
      {"id", "rows", "dim", "dtype", "pad", "offset", "fill", "scale", "special", "weight_dtype",
       "weight_scale", "kind", "repeats", "hidden_bias", "classes", "out_bias", "seed", "tags"},
      [](const Row& row, GateCase* c) {
        c->features = read_matrix(row, "dim");
        c->weight_type = row.type("weight_dtype");
        c->weight_scale = row.number("weight_scale");
        c->kind = row.choice("kind", {"linear", "residual", "tanh"});
        c->repeats = static_cast<int32_t>(row.integer("repeats"));
        c->hidden_bias = row.flag("hidden_bias");
        c->classes = row.integer("classes");
        c->out_bias = row.flag("out_bias");
      });
}

std::vector<ExitRuleCase> exit_rule_cases(const std::string& directory) {
  return read_cases<ExitRuleCase>(
      directory, "exit_rule",
      {"id",      "rows",  "layers",  "tokens",    "rule",     "comparator", "decay",     "tau",
       "horizon", "step",  "scope",   "threshold", "patience", "min_steps",  "max_steps", "scores",
       "labels",  "valid", "special", "force",     "outputs",  "seed",       "tags"},
      [](const Row& row, ExitRuleCase* c) {
        c->rows = row.integer("rows");
        c->layers = row.integer("layers");
        c->tokens = row.integer("tokens");
        c->rule = row.choice("rule", {"threshold", "patience", "quantile", "jei", "specdec"});
        c->comparator = row.choice("comparator", {"ge", "gt", "le"});
        c->decay = row.choice("decay", {"none", "calm_code", "calm_paper"});
        c->tau = row.number("tau");
        c->horizon = row.number("horizon");
        c->step_tensor = row.choice("step", {"index", "tensor"}) == 1;
        c->scope = row.choice("scope", {"each", "all", "last"});
        c->threshold = row.number("threshold");
        c->patience = static_cast<int32_t>(row.integer("patience"));
        c->min_steps = static_cast<int32_t>(row.integer("min_steps"));
        c->max_steps = static_cast<int32_t>(row.integer("max_steps"));
        c->scores = row.text("scores");
        c->labels = row.text("labels") == "-" ? 0 : row.integer("labels");
        c->valid = row.choice("valid", {"-", "some"}) == 1;
        c->nan = row.choice("special", {"-", "nan"}) == 1;
        c->force = row.flag("force");
        c->outputs =
            row.subset("outputs", {"exit_mask", "active_list", "active_count", "exit_layer"});
      });
}

// ---- inputs -------------------------------------------------------------------------------------

RowStatsInputs make_inputs(const RowStatsCase& c) { return {make_matrix(c.logits, c.seed, 0)}; }

StableMaxInputs make_inputs(const StableMaxCase& c) { return {make_matrix(c.logits, c.seed, 0)}; }

namespace {

HostTensor make_translator(const ExitHeadCase& c) {
  const int64_t d = c.hidden.cols;
  HostTensor t = make_tensor(c.translator_type, {d, d}, c.translator_pad);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const float v = bell(word(c.seed, 5, static_cast<uint64_t>(i * d + j))) * 0x1p-5f;
      t.set(i, j, static_cast<double>(i == j ? v + 1 : v));
    }
  }
  return t;
}

HostTensor make_shortlist(const ExitHeadCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.shortlist});
  for (int64_t k = 0; k < c.shortlist; ++k) {
    const int64_t at = c.shortlist_descending ? c.shortlist - 1 - k : k;
    t.set_integer(at, k * c.weight.rows / c.shortlist);
  }
  return t;
}

}  // namespace

ExitHeadInputs make_inputs(const ExitHeadCase& c) {
  const int64_t d = c.hidden.cols;
  ExitHeadInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  in.weight = make_matrix(c.weight, c.seed, 1);
  if (c.bias != "-") {
    in.bias = make_tensor(Type::kF32, {c.weight.rows});
    fill(&in.bias, c.seed, 2, "normal", 1, c.bias == "normal" ? "-" : c.bias);
  }
  if (c.norm != EXN_NORM_NONE) in.norm_weight = make_bell(Type::kF32, {d}, c.seed, 3, 0.25f, 1);
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {d}, c.seed, 4, 0.25f);
  if (c.translator) in.translator = make_translator(c);
  if (c.translator_bias) in.translator_bias = make_bell(Type::kF32, {d}, c.seed, 6, 0.125f);
  if (c.shortlist > 0) in.shortlist = make_shortlist(c);
  return in;
}

CrossEntropyInputs make_inputs(const CrossEntropyCase& c) {
  CrossEntropyInputs in;
  in.logits = make_matrix(c.logits, c.seed, 0);
  in.labels = make_tensor(c.label_type, {c.logits.rows});
  if (c.labels != "random" && c.labels != "some" && c.labels != "ignored" && c.labels != "last") {
    fail("labels: " + c.labels);
  }
  for (int64_t r = 0; r < c.logits.rows; ++r) {
    int64_t label = static_cast<int64_t>(word(c.seed, 1, static_cast<uint64_t>(r)) %
                                         static_cast<uint64_t>(c.logits.cols));
    if (c.labels == "last") label = c.logits.cols - 1;
    if (c.labels == "ignored" || (c.labels == "some" && r % 4 == 2)) label = c.ignore_index;
    in.labels.set_integer(r, label);
  }
  return in;
}

namespace {

// b from the stored a; false if `relation` is none of the derived ones. A
// matrix of one row is a vector.
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

}  // namespace

PerpGradInputs make_inputs(const PerpGradCase& c) {
  PerpGradInputs in;
  in.weight = make_tensor(c.type, c.shape, 0, c.offset);
  in.grad = make_tensor(c.type, c.shape, 0, c.offset);
  for (HostTensor* t : {&in.weight, &in.grad}) {
    t->cols = t->size();
    t->rows = 1;
    t->stride = t->cols;
  }
  fill(&in.weight, c.seed, 0, c.weight_fill, c.weight_scale, "-");
  if (!derive(in.weight, c.grad_fill, c.seed, c.grad_scale, &in.grad)) {
    fill(&in.grad, c.seed, 1, c.grad_fill, c.grad_scale, "-");
  }
  if (c.special.rfind("weight_", 0) == 0) fill_special(&in.weight, c.seed, 0, c.special.substr(7));
  if (c.special.rfind("grad_", 0) == 0) fill_special(&in.grad, c.seed, 1, c.special.substr(5));
  return in;
}

CosineInputs make_inputs(const CosineCase& c) {
  CosineInputs in;
  MatrixSpec plain = c.a;
  plain.special = "-";
  if (c.relation == "zero_a") plain.fill = "zero";
  in.a = make_matrix(plain, c.seed, 0);
  if (c.relation != "same") {
    in.b = make_tensor(c.a.type, {c.a.rows, c.a.cols}, c.pad_b, c.offset_b);
    const bool independent = c.relation == "independent" || c.relation == "zero_a";
    if (independent) {
      fill(&in.b, c.seed, 1, c.a.fill, c.scale_b, "-");
    } else if (c.relation == "zero") {
      fill(&in.b, c.seed, 1, "zero", 1, "-");
    } else if (!derive(in.a, c.relation, c.seed, 1, &in.b)) {
      fail("relation: " + c.relation);
    }
  }
  fill_special(&in.a, c.seed, 0, c.a.special);
  return in;
}

GateInputs make_inputs(const GateCase& c) {
  const int64_t d = c.features.cols;
  GateInputs in;
  in.features = make_matrix(c.features, c.seed, 0);
  if (c.kind == EXN_GATE_RESIDUAL) {
    in.hidden_weight = make_bell(c.weight_type, {d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {d}, c.seed, 2, 0.125f);
  }
  if (c.kind == EXN_GATE_TANH) {
    in.hidden_weight = make_bell(c.weight_type, {c.repeats, d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {c.repeats, d}, c.seed, 2, 0.125f);
  }
  in.out_weight = make_bell(c.weight_type, {c.classes, d}, c.seed, 3, c.weight_scale);
  if (c.out_bias) in.out_bias = make_bell(Type::kF32, {c.classes}, c.seed, 4, 0.125f);
  return in;
}

namespace {

float score_of(const std::string& kind, uint64_t w) {
  if (kind == "unit") return unit(w);
  if (kind == "grid") return static_cast<float>((w >> 32) % 11) * 0.1f;
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "low") return unit(w) * 0.125f;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  fail("scores: unknown word '" + kind + "'");
}

}  // namespace

ExitRuleInputs make_inputs(const ExitRuleCase& c, int64_t token, int64_t layer) {
  ExitRuleInputs in;
  if (c.scores != "-") in.score = make_tensor(Type::kF32, {c.rows});
  if (c.labels > 0) in.label = make_tensor(Type::kI32, {c.rows});
  if (c.valid) in.valid = make_tensor(Type::kU8, {c.rows});
  if (c.step_tensor) in.step = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    const uint64_t i = static_cast<uint64_t>((token * c.layers + layer) * c.rows + r);
    if (in.score.given()) {
      const bool nan = c.nan && word(c.seed, 3, i) % 7 == 0;
      in.score.set(0, r, nan ? kNaN : static_cast<double>(score_of(c.scores, word(c.seed, 0, i))));
    }
    if (in.label.given()) {
      in.label.set_integer(
          r, static_cast<int64_t>(word(c.seed, 1, i) % static_cast<uint64_t>(c.labels)));
    }
    if (in.valid.given()) in.valid.set_integer(r, word(c.seed, 2, i) % 5 != 0);
    if (in.step.given()) in.step.set_integer(r, 8 * token + r);
  }
  return in;
}

}  // namespace exn::test
