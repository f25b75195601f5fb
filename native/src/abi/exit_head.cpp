// SPDX-License-Identifier: Apache-2.0
#include <exeunt/exit_head.h>

#include "backends.h"
#include "base/args/exit_head.h"
#include "base/screen.h"

namespace exn {

namespace {

void check_no_screen(const exn_exit_head_params& p, Check& check) {
  constexpr const char* kWhy = "screen is null";
  check.absent("certified", p.certified, kWhy);
  check.absent("p1_low", p.p1_low, kWhy);
  check.absent("p1_high", p.p1_high, kWhy);
  check.absent("rows_read", p.rows_read, kWhy);
  if (p.screen_level != 0) check.fail_argument("screen_level is %d, but %s", p.screen_level, kWhy);
  if (p.screen_mode != 0) check.fail_argument("screen_mode is %d, but %s", p.screen_mode, kWhy);
  if (p.screen_budget != 0)
    check.fail_argument("screen_budget is %d, but %s", p.screen_budget, kWhy);
  if (p.screen_factor != 0) {
    check.fail_argument("screen_factor is %g, but %s", static_cast<double>(p.screen_factor), kWhy);
  }
}

// A device's memory cannot be looked at; there the kernels do.
void check_image(Check& check, const Vector& image, int64_t vocabulary, int64_t dim,
                 int32_t level) {
  check.at_least("screen_level", level, 0);
  if (check.ok() && reinterpret_cast<uintptr_t>(image.data) % kScreenAlign != 0) {
    check.fail_argument("screen is at address %p, which is not aligned to %lld bytes", image.data,
                        static_cast<long long>(kScreenAlign));
  }
  if (check.ok() && image.size < kScreenHeaderBytes) {
    check.fail_argument("screen has %lld bytes, a header alone has %lld",
                        static_cast<long long>(image.size),
                        static_cast<long long>(kScreenHeaderBytes));
  }
  if (!check.ok() || check.device_type() != kDLCPU) return;
  ScreenHeader header;
  std::memcpy(&header, image.data, sizeof header);
  const char* const wrong = wrong_in(header, image.size);
  if (wrong != nullptr) {
    check.fail_argument("screen %s", wrong);
    return;
  }
  check.same("screen", "rows", header.vocabulary, "weight", vocabulary);
  check.same("screen", "columns", header.dim, "hidden", dim);
  check.at_most("screen_level", level, header.levels - 1);
}

void check_screen(const exn_exit_head_params& p, Check& check, ExitHeadArgs* a) {
  if (p.screen == nullptr) {
    check_no_screen(p, check);
    return;
  }
  constexpr const char* kWhy = "screen is given";
  const Vector image = check.vector("screen", p.screen, kU8Only, Role::kIn);
  check_image(check, image, a->weight.rows, a->hidden.cols, p.screen_level);
  check.absent("shortlist", p.shortlist, kWhy);
  if (p.normalizer == EXN_STABLEMAX)
    check.fail_argument("normalizer is EXN_STABLEMAX (1), but %s", kWhy);
  check.absent("out.p2", p.out.p2, kWhy);
  check.absent("out.margin", p.out.margin, kWhy);
  check.absent("out.entropy", p.out.entropy, kWhy);
  check.absent("out.pow2_entropy", p.out.pow2_entropy, kWhy);
  check.absent("out.mean_log_p", p.out.mean_log_p, kWhy);
  check.absent("out.labels", p.out.labels, kWhy);
  check.absent("out.draw", p.out.draw, kWhy);
  const int64_t rows = a->hidden.rows;
  const auto output = [&](const char* name, const DLTensor* t, DTypes dtypes) {
    return check.per_row<void>(name, t, dtypes, Role::kOut, "hidden", rows, Need::kOptional);
  };
  a->certified = static_cast<uint8_t*>(output("certified", p.certified, kU8Only));
  a->p1_low = static_cast<float*>(output("p1_low", p.p1_low, kF32Only));
  a->p1_high = static_cast<float*>(output("p1_high", p.p1_high, kF32Only));
  if ((p.p1_low == nullptr) != (p.p1_high == nullptr)) {
    check.fail_argument("%s is given, but %s is null", p.p1_low != nullptr ? "p1_low" : "p1_high",
                        p.p1_low != nullptr ? "p1_high" : "p1_low");
  }
  a->rows_read = static_cast<int32_t*>(output("rows_read", p.rows_read, kI32Only));
  check.one_of("screen_mode", p.screen_mode, EXN_SCREEN_PROVEN, EXN_SCREEN_CALIBRATED);
  check.at_least("screen_budget", p.screen_budget, 0);
  check.at_most("screen_budget", p.screen_budget, a->weight.rows);
  check.not_negative("screen_factor", p.screen_factor);
  if (p.screen_mode == EXN_SCREEN_PROVEN && p.screen_factor != 0) {
    check.fail_argument("screen_factor is %g, but screen_mode is EXN_SCREEN_PROVEN (0)",
                        static_cast<double>(p.screen_factor));
  }
  const int64_t vocabulary = a->weight.rows, usual = vocabulary / 50 + 64;
  a->screen = static_cast<const char*>(image.data);
  a->screen_bytes = image.size;
  a->screen_level = p.screen_level;
  a->screen_budget = p.screen_budget != 0 ? p.screen_budget
                     : usual < vocabulary ? usual
                                          : vocabulary;
  a->screen_factor = p.screen_mode == EXN_SCREEN_PROVEN ? 0
                     : p.screen_factor == 0             ? 8
                                                        : p.screen_factor;
}

void check_args(const exn_exit_head_params& p, Check& check, ExitHeadArgs* a) {
  a->hidden = check.matrix("hidden", p.hidden, kFloats, Role::kIn);
  const int64_t dim = a->hidden.cols;
  a->weight = check.weights("weight", p.weight, "weight_blocks", p.weight_blocks, "hidden", dim);
  const int64_t vocab = a->weight.rows;
  check.at_least("D (columns of hidden)", dim, 1);
  check.at_least("V (rows of weight)", vocab, 1);
  check.at_most("V (rows of weight)", vocab, INT32_MAX);
  a->bias = check.coefficients("bias", p.bias, "the rows of weight", vocab);
  check.norm({}, p.norm_weight, p.norm_bias, p.norm, p.norm_eps, dim, &a->norm_weight,
             &a->norm_bias);

  a->translator = check.weights("translator_weight", p.translator_weight, "translator_blocks",
                                p.translator_blocks, "hidden", dim, Need::kOptional);
  if (p.translator_weight != nullptr) {
    check.same("translator_weight", "rows", a->translator.rows, "the columns of hidden", dim);
  }
  if (p.translator_weight == nullptr) {
    check.absent("translator_bias", p.translator_bias, "translator_weight is null");
  }
  a->translator_bias =
      check.coefficients("translator_bias", p.translator_bias, "the columns of hidden", dim);
  check.one_of("translate", p.translate, EXN_TRANSLATE_RAW, EXN_TRANSLATE_RMS);

  a->shortlist = check.vector("shortlist", p.shortlist, kI32Only, Role::kIn, Need::kOptional);
  if (p.shortlist != nullptr) check.at_least("N (entries of shortlist)", a->shortlist.size, 1);
  check.product_in_range({{"R (rows of hidden)", a->hidden.rows},
                          p.shortlist == nullptr
                              ? Check::Count{"V (rows of weight)", vocab}
                              : Check::Count{"N (entries of shortlist)", a->shortlist.size}});

  check_normalizer(check, p.normalizer, p.temperature, p.softcap);
  a->norm = p.norm;
  a->norm_eps = p.norm_eps;
  a->translate = p.translate;
  a->normalizer = p.normalizer;
  a->temperature = p.temperature;
  a->softcap = p.softcap;
  a->out = read_stats(check, p.out, a->hidden.rows, p.normalizer);
  check_screen(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(exit_head, ExitHeadArgs, check_args)
