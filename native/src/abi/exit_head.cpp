// SPDX-License-Identifier: Apache-2.0
#include <exeunt/exit_head.h>

#include <cstddef>

#include "backends.h"

namespace exn {

template <>
constexpr uint64_t kFirstSize<exn_exit_head_params> = offsetof(exn_exit_head_params, weight_blocks);

namespace {

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
  a->out = read_stats(check, p.out, a->hidden.rows);
}

constexpr Op<exn_exit_head_params, ExitHeadArgs> kOp{"exn_exit_head", check_args,
                                                     &Backend::exit_head};

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(exit_head, exn::kOp)
