// SPDX-License-Identifier: Apache-2.0
// hired_budget on the CPU. The n-th largest of some floats is found by halving the range of their
// order, each time counting how many are not below its middle: no sorting, no memory.
#include "base/args/hired_budget.h"
#include "isa.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Finite floats in the order of signed integers; -0 comes just before +0, with which it compares
// equal all the same.
float float_at(int32_t order) {
  const int32_t bits = order >= 0 ? order : order ^ 0x7fffffff;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

int64_t count_not_below(const float* x, int64_t n, float least) {
  int64_t all = 0;
  for (int64_t begin = 0; begin < n; begin += 1 << 20) {  // counts of a piece fit 32 bits: vectors
    const int64_t end = begin + (1 << 20) < n ? begin + (1 << 20) : n;
    int32_t count = 0;
    for (int64_t i = begin; i < end; ++i) count += x[i] >= least ? 1 : 0;
    all += count;
  }
  return all;
}

// The n-th largest, 1 <= n <= size, and how many of those that equal it are among the first n.
struct Nth {
  float value;
  int64_t equals;
};

Nth nth_largest(const float* x, int64_t size, int64_t n) {
  constexpr int32_t kInfinity = 0x7f800000;
  int64_t low = -int64_t{kInfinity} - 1, high = kInfinity;  // of -inf and +inf; x is between them
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (count_not_below(x, size, float_at(static_cast<int32_t>(middle))) >= n) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {float_at(static_cast<int32_t>(low)),
          n - count_not_below(x, size, float_at(static_cast<int32_t>(high)))};
}

bool all_finite(const float* x, int64_t n) {
  int32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bad |= (bits & 0x7f800000u) == 0x7f800000u ? 1 : 0;
  }
  return bad == 0;
}

// Adds what value(i) gives for the tokens of each region to its score, in the order of the tokens.
template <class F>
EXN_SIMD void add_regions(const HiredBudgetArgs& a, double* score, F&& value) {
  const int64_t parts = a.grid_rows * a.grid_cols, patches = a.patch_rows * a.patch_cols;
  for (int64_t i = 0; i < parts; ++i) score[i] = 0;
  const bool strip = a.region == EXN_HIRED_STRIP;
  const int64_t run = strip ? patches / parts : a.patch_cols / a.grid_cols;
  for (int64_t first = 0, r = 0; first < patches; first += run, ++r) {
    const int64_t row = r / (strip ? 1 : a.grid_cols);
    const int64_t cell = row / (strip ? 1 : a.patch_rows / a.grid_rows);
    const int64_t region = strip ? r : cell * a.grid_cols + r % a.grid_cols;
    double sum = score[region];
    for (int64_t i = first; i < first + run; ++i) sum += value(i);
    score[region] = sum;
  }
}

// Marks the largest mark_count tokens, the smaller index first among equals.
void count_marks(const HiredBudgetArgs& a, const float* attention, uint8_t* marks, double* score) {
  const int64_t parts = a.grid_rows * a.grid_cols, patches = a.patch_rows * a.patch_cols;
  Nth least = {__builtin_inff(), 0};
  if (a.mark_count > 0) least = nth_largest(attention, patches, a.mark_count);
  int64_t equals = least.equals;
  const auto marked = [&](int64_t i) EXN_FLAT {
    const bool equal = attention[i] == least.value && equals > 0;
    equals -= equal ? 1 : 0;
    const bool mark = attention[i] > least.value || equal;
    if (marks != nullptr) marks[i] = mark ? 1 : 0;
    return mark ? 1.0 : 0.0;
  };
  if (parts > 0) {
    add_regions(a, score, marked);
  } else {
    for (int64_t i = 0; i < patches; ++i) marked(i);
  }
}

// What truncation left of the budget, one by one to the largest fractions below their limits.
void deal_out(int64_t left, int64_t parts, int64_t most, float* fraction, int32_t* budget) {
  while (left > 0) {
    int64_t open = 0;
    for (int64_t i = 0; i < parts; ++i) {
      if (budget[i] < most) {
        ++open;
      } else {
        fraction[i] = -1;
      }
    }
    const int64_t given = left < open ? left : open;
    if (given == 0) return;
    Nth least = nth_largest(fraction, parts, given);
    for (int64_t i = 0; i < parts; ++i) {
      const bool equal = fraction[i] == least.value && least.equals > 0;
      least.equals -= equal ? 1 : 0;
      budget[i] += equal || fraction[i] > least.value ? 1 : 0;
    }
    left -= given;
  }
}

void share(const HiredBudgetArgs& a, double* score, float* fraction, int32_t* budget) {
  const int64_t parts = a.grid_rows * a.grid_cols, most = a.patch_rows * a.patch_cols;
  double sum = 0;
  for (int64_t i = 0; i < parts; ++i) sum += score[i];
  const bool positive = sum > 0;
  if (!positive) sum = static_cast<double>(parts);
  int64_t left = a.sub_budget;
  for (int64_t i = 0; i < parts; ++i) {
    const double proportion = (positive ? score[i] : 1.0) / sum;
    float q = static_cast<float>(proportion) * static_cast<float>(a.sub_budget);
    if (!(q > 0)) q = 0;  // a NaN too: an infinite share of nothing
    if (q > static_cast<float>(most)) q = static_cast<float>(most);
    budget[i] = static_cast<int32_t>(q);
    fraction[i] = q - static_cast<float>(budget[i]);
    left -= budget[i];
  }
  if (a.remainder == EXN_HIRED_LARGEST_REMAINDER) deal_out(left, parts, most, fraction, budget);
}

void budget_image(const HiredBudgetArgs& a, int64_t image, double* score, float* fraction) {
  const int64_t parts = a.grid_rows * a.grid_cols, patches = a.patch_rows * a.patch_cols;
  const float* attention = static_cast<const float*>(a.attention.data) + image * a.attention.stride;
  int32_t* budget = a.budget + image * (1 + parts);
  uint8_t* marks = a.marks != nullptr ? a.marks + image * patches : nullptr;
  const bool valid = all_finite(attention, patches);
  if (a.valid != nullptr) a.valid[image] = valid ? 1 : 0;
  if (!valid) {
    for (int64_t i = 0; i <= parts; ++i) budget[i] = static_cast<int32_t>(patches);
    if (marks != nullptr) std::memset(marks, 0, static_cast<size_t>(patches));
    return;
  }
  budget[0] = static_cast<int32_t>(a.full_budget);
  if (a.score == EXN_HIRED_TOP_COUNT) {
    count_marks(a, attention, marks, score);
  } else if (parts > 0) {
    add_regions(a, score, [&](int64_t i) EXN_FLAT { return static_cast<double>(attention[i]); });
  }
  if (parts > 0) share(a, score, fraction, budget + 1);
}

}  // namespace

exn_status hired_budget(const HiredBudgetArgs& args, Workspace& ws) {
  const HiredBudgetArgs a = args;  // a copy that no store can alias
  const int64_t images = a.attention.rows, parts = a.grid_rows * a.grid_cols;
  double* score = ws.take<double>(images * parts);
  float* fraction = ws.take<float>(images * parts);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "hired_budget"));
  constexpr int64_t kWorthSharing = 32768;  // tokens
  parallel_for(images, kWorthSharing / (a.patch_rows * a.patch_cols) + 1,
               [&](int64_t begin, int64_t end) {
                 for (int64_t image = begin; image < end; ++image)
                   budget_image(a, image, score + image * parts, fraction + image * parts);
               });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
