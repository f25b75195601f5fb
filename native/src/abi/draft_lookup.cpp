// SPDX-License-Identifier: Apache-2.0
#include <exeunt/draft_lookup.h>

#include "backends.h"
#include "base/args/draft_lookup.h"

namespace exn {
namespace {

// Compact, a row for each sequence; its columns go to *columns.
template <class T>
T* rows_of(const DraftLookupArgs& a, Check& check, const char* name, const DLTensor* t, Role role,
           const char* columns_name, int64_t* columns) {
  const Matrix m = check.matrix(name, t, kI32Only, role);
  check.same(name, "rows", m.rows, "context", a.sequences);
  if (m.rows > 1) check.same(name, "elements between rows", m.stride, "a compact one", m.cols);
  check.at_most(columns_name, m.cols, INT32_MAX);
  *columns = m.cols;
  return static_cast<T*>(m.data);
}

void check_ngrams(const exn_draft_lookup_params& p, Check& check, DraftLookupArgs* a) {
  check.at_least("max_ngram", p.max_ngram, 1);
  check.at_most("max_ngram", p.max_ngram, EXN_LOOKUP_MOST);
  check.at_least("min_ngram", p.min_ngram, 1);
  check.at_most("min_ngram", p.min_ngram, p.max_ngram);
  if (p.most_matched != 0) {
    check.at_least("most_matched", p.most_matched, p.max_ngram);
    check.at_most("most_matched", p.most_matched, EXN_LOOKUP_MOST);
  }
  a->min_ngram = p.min_ngram;
  a->max_ngram = p.max_ngram;
  a->most_matched = p.most_matched != 0 ? p.most_matched : p.max_ngram;
}

void check_args(const exn_draft_lookup_params& p, Check& check, DraftLookupArgs* a) {
  check.reserved(p.reserved);
  const Matrix context = check.matrix("context", p.context, kI32Only, Role::kInOut);
  check.at_most("T (columns of context)", context.cols, INT32_MAX);
  a->context = static_cast<int32_t*>(context.data);
  a->sequences = context.rows;
  a->capacity = context.cols;
  a->stride = context.stride;
  const auto each = [&](const char* name, const DLTensor* t, Role role, Need need) {
    return check.per_row<int32_t>(name, t, kI32Only, role, "the rows of context", a->sequences,
                                  need);
  };
  a->length = each("length", p.length, Role::kInOut, Need::kRequired);
  if (p.append != nullptr) {
    a->append = rows_of<const int32_t>(*a, check, "append", p.append, Role::kIn,
                                       "A (columns of append)", &a->width);
    a->append_count = each("append_count", p.append_count, Role::kIn, Need::kOptional);
  } else {
    check.absent("append_count", p.append_count, "append is null");
  }
  a->active = check.per_row<const uint8_t>("active", p.active, kU8Only, Role::kIn,
                                           "the rows of context", a->sequences, Need::kOptional);
  a->limit = each("limit", p.limit, Role::kIn, Need::kOptional);
  a->drafted = rows_of<int32_t>(*a, check, "drafted", p.drafted, Role::kOut,
                                "K (columns of drafted)", &a->most);
  a->draft_length = each("draft_length", p.draft_length, Role::kOut, Need::kRequired);
  a->matched = each("matched", p.matched, Role::kOut, Need::kOptional);
  check_ngrams(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(draft_lookup, DraftLookupArgs, check_args)
