// SPDX-License-Identifier: Apache-2.0
// Reads tests/cases/*.tsv and makes the inputs of a case. tests/cases/README.md is the
// specification. Depends on the public headers only, so that a program without
// GoogleTest can use it as well.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <exeunt/exeunt.h>

namespace exn::test {

enum class Type { kF64, kF32, kF16, kBF16, kI32, kI64, kU8 };

inline int64_t size_of(Type type) {
  switch (type) {
    case Type::kF64:
    case Type::kI64:
      return 8;
    case Type::kF32:
    case Type::kI32:
      return 4;
    case Type::kF16:
    case Type::kBF16:
      return 2;
    case Type::kU8:
      return 1;
  }
  return 0;
}

DLDataType dl_type(Type type);
const char* name_of(Type type);

// Storage conversions, rounding to nearest even; NaN becomes the canonical quiet NaN.
uint16_t f16_from_float(float value);
uint16_t bf16_from_float(float value);
float float_from_f16(uint16_t bits);
float float_from_bf16(uint16_t bits);

// One stored element; `store` takes floating-point types only.
double load(const unsigned char* p, Type type);
void store(unsigned char* p, Type type, double value);

// The value that `type` stores for `value`.
double rounded_to(Type type, double value);

// ---- generator ----------------------------------------------------------------------------------

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

inline uint64_t word(uint64_t seed, uint64_t stream, uint64_t i) {
  return mix(mix(seed * kGolden + stream) + (i + 1) * kGolden);
}

inline float unit(uint64_t w) { return static_cast<float>(w >> 40) * 0x1p-24f; }

inline float bell(uint64_t w) {
  const int64_t sum =
      static_cast<int64_t>((w & 0xFFFF) + ((w >> 16) & 0xFFFF) + ((w >> 32) & 0xFFFF) + (w >> 48));
  return static_cast<float>(sum - 131070) * 0x1p-15f;
}

// A matrix in host memory: `rows` rows of `cols` elements, `stride` elements apart; what lies
// between rows is NaN (floating point) or 0x7B bytes. A vector is one row. `offset` says where a
// placed copy should begin, in elements past a 64-byte boundary.
struct HostTensor {
  Type type = Type::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  int64_t offset = 0;
  std::vector<int64_t> shape;  // as the op sees it
  std::vector<unsigned char> bytes;

  bool given() const { return !shape.empty(); }
  int64_t size() const { return rows * cols; }
  // Inline with a short way for f32: inputs are made and compared element by element, which is what
  // most of a test's time goes into.
  double at(int64_t row, int64_t col) const {
    const unsigned char* p = bytes.data() + (row * stride + col) * size_of(type);
    if (type != Type::kF32) return load(p, type);
    float v;
    std::memcpy(&v, p, sizeof v);
    return static_cast<double>(v);
  }
  int64_t integer_at(int64_t index) const;  // of an integer vector
  void set(int64_t row, int64_t col, double value) {
    unsigned char* p = bytes.data() + (row * stride + col) * size_of(type);
    if (type != Type::kF32) return store(p, type, value);
    const float v = static_cast<float>(value);
    std::memcpy(p, &v, sizeof v);
  }
  void set_integer(int64_t index, int64_t value);
};

// `shape` {R, C}: R rows with padding; any other rank: compact, seen as one row.
HostTensor make_tensor(Type type, std::vector<int64_t> shape, int64_t pad = 0, int64_t offset = 0);

// Fills all of `tensor`; `special` "-" leaves it at that.
void fill(HostTensor* tensor, uint64_t seed, uint64_t stream, const std::string& kind, float scale,
          const std::string& special);

// ---- tables -------------------------------------------------------------------------------------

// One line of a table. Accessors throw std::runtime_error on a missing column or a
// word that does not parse.
class Row {
 public:
  Row(const std::vector<std::string>* columns, std::vector<std::string> fields)
      : columns_(columns), fields_(std::move(fields)) {}
  const std::string& text(const char* column) const;
  int64_t integer(const char* column) const;
  float number(const char* column) const;
  bool flag(const char* column) const;
  Type type(const char* column) const;
  // Position of the field in `words`.
  int32_t choice(const char* column, const std::vector<const char*>& words) const;
  // Bit i is set if the field is "all" or lists words[i].
  uint32_t subset(const char* column, const std::vector<const char*>& words) const;

 private:
  const std::vector<std::string>* columns_;
  std::vector<std::string> fields_;
};

struct Table {
  std::vector<std::string> columns;
  std::vector<Row> rows;
};

// Reads <directory>/<op>.tsv; throws std::runtime_error if it is missing, malformed or has other
// columns than `columns`.
void read_table(const std::string& directory, const std::string& op,
                const std::vector<const char*>& columns, Table* table);

struct CaseBase {
  std::string id;
  uint64_t seed = 0;
  bool small = false;
  bool exact = false;
  bool big = false;
  bool bench = false;
};

// Order of the bits in `outputs` and of the members of exn_stats.
enum Stat {
  kArgmax,
  kMaxLogit,
  kLse,
  kP1,
  kP2,
  kMargin,
  kEntropy,
  kPow2Entropy,
  kMeanLogP,
  kValid,
  kStats
};
extern const char* const kStatNames[kStats];

struct MatrixSpec {
  int64_t rows = 0;
  int64_t cols = 0;
  Type type = Type::kF32;
  int64_t pad = 0;
  int64_t offset = 0;
  std::string fill = "normal";
  float scale = 1;
  std::string special = "-";
};

struct RowStatsCase : CaseBase {
  MatrixSpec logits;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  uint32_t outputs = 0;
};

struct ExitHeadCase : CaseBase {
  MatrixSpec hidden;
  MatrixSpec weight;
  std::string bias = "-";
  int32_t norm = EXN_NORM_NONE;
  float norm_eps = 0;
  bool norm_bias = false;
  bool translator = false;
  Type translator_type = Type::kF32;
  int64_t translator_pad = 0;
  int32_t translate = EXN_TRANSLATE_RAW;
  bool translator_bias = false;
  int64_t shortlist = 0;
  bool shortlist_descending = false;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  uint32_t outputs = 0;
};

struct StableMaxCase : CaseBase {
  MatrixSpec logits;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t normalizer = EXN_STABLEMAX;
  bool log = false;
  bool in_place = false;
};

struct CrossEntropyCase : CaseBase {
  MatrixSpec logits;
  int64_t grad_pad = 0;
  int64_t grad_offset = 0;
  Type label_type = Type::kI64;
  std::string labels;
  int64_t ignore_index = 0;
  int32_t normalizer = EXN_STABLEMAX;
  int32_t reduction = EXN_REDUCE_MEAN;
  bool loss = true;
  bool grad = true;
  bool in_place = false;
};

struct PerpGradCase : CaseBase {
  std::vector<int64_t> shape;
  Type type = Type::kF32;
  int64_t offset = 0;
  std::string weight_fill;
  float weight_scale = 1;
  std::string grad_fill;
  float grad_scale = 1;
  std::string special;
  int32_t form = EXN_PERP_CODE;
  bool in_place = false;
};

struct CosineCase : CaseBase {
  MatrixSpec a;
  int64_t pad_b = 0;
  int64_t offset_b = 0;
  std::string relation;
  float scale_b = 1;
};

struct GateCase : CaseBase {
  MatrixSpec features;
  Type weight_type = Type::kF32;
  float weight_scale = 1;
  int32_t kind = EXN_GATE_LINEAR;
  int32_t repeats = 0;
  bool hidden_bias = false;
  int64_t classes = 1;
  bool out_bias = false;
};

enum ExitOutput { kExitMask, kActiveList, kActiveCount, kExitLayer };

struct ExitRuleCase : CaseBase {
  int64_t rows = 0;
  int64_t layers = 0;
  int64_t tokens = 0;
  int32_t rule = EXN_RULE_THRESHOLD;
  int32_t comparator = EXN_COMPARE_GE;
  int32_t decay = EXN_DECAY_NONE;
  float tau = 0;
  float horizon = 1;
  bool step_tensor = false;
  int32_t scope = EXN_SCOPE_EACH;
  float threshold = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  std::string scores;
  int64_t labels = 0;  // 0: none
  bool valid = false;
  bool nan = false;
  bool force = false;
  uint32_t outputs = 0;
};

// All cases of an op from the tables in `directory`.
std::vector<RowStatsCase> row_stats_cases(const std::string& directory);
std::vector<ExitHeadCase> exit_head_cases(const std::string& directory);
std::vector<StableMaxCase> stablemax_cases(const std::string& directory);
std::vector<CrossEntropyCase> cross_entropy_cases(const std::string& directory);
std::vector<PerpGradCase> perp_grad_cases(const std::string& directory);
std::vector<CosineCase> cosine_cases(const std::string& directory);
std::vector<GateCase> gate_cases(const std::string& directory);
std::vector<ExitRuleCase> exit_rule_cases(const std::string& directory);

// ---- inputs -------------------------------------------------------------------------------------
// A tensor that the case leaves out has an empty shape.

struct RowStatsInputs {
  HostTensor logits;
};

struct ExitHeadInputs {
  HostTensor hidden, weight, bias, norm_weight, norm_bias, translator, translator_bias, shortlist;
};

struct StableMaxInputs {
  HostTensor logits;
};

struct CrossEntropyInputs {
  HostTensor logits, labels;
};

struct PerpGradInputs {
  HostTensor weight, grad;
};

struct CosineInputs {
  HostTensor a;
  HostTensor b;  // not given: b is a
};

struct GateInputs {
  HostTensor features, hidden_weight, hidden_bias, out_weight, out_bias;
};

struct ExitRuleInputs {
  HostTensor score, label, valid, step;
};

RowStatsInputs make_inputs(const RowStatsCase& c);
ExitHeadInputs make_inputs(const ExitHeadCase& c);
StableMaxInputs make_inputs(const StableMaxCase& c);
CrossEntropyInputs make_inputs(const CrossEntropyCase& c);
PerpGradInputs make_inputs(const PerpGradCase& c);
CosineInputs make_inputs(const CosineCase& c);
GateInputs make_inputs(const GateCase& c);
// Of one call: token `token`, layer `layer`.
ExitRuleInputs make_inputs(const ExitRuleCase& c, int64_t token, int64_t layer);

}  // namespace exn::test
