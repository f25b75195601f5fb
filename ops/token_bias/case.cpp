// SPDX-License-Identifier: Apache-2.0
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace token_bias_op {

namespace {

struct TokenBiasCase : CaseBase {
  MatrixSpec logits;
  std::string ids;
  int64_t count = 0;
  bool mask = false;
  float scale = 1;
  float add = 0;
};

void read_case(const Row& row, TokenBiasCase* c) {
  c->logits = read_matrix(row, "logits", "rows", "vocab", "special");
  c->ids = row.text("ids");
  c->count = row.integer("count");
  c->mask = row.choice("mask", {"-", "some"}) == 1;
  c->scale = row.number("scale");
  c->add = row.text("add") == "ninf" ? -INFINITY : row.number("add");
}

struct Inputs {
  HostTensor logits, ids, mask;
};

Inputs make_inputs(const TokenBiasCase& c) {
  Inputs in = {make_matrix(c.logits, c.seed, 0), {}, {}};
  std::vector<int64_t> ids = shuffled(c.logits.cols, c.seed, 1);
  if (c.ids == "edges") ids = {c.logits.cols - 1, 0};
  ids.resize(at(c.count));
  in.ids = make_integers(ids);
  if (c.mask) {
    in.mask = make_tensor(Type::kU8, {c.logits.rows});
    for (int64_t r = 0; r < c.logits.rows; ++r) in.mask.set_integer(r, pick(c.seed, 2, r, 3) != 0);
  }
  return in;
}

// The logits afterwards. An id that does not exist changes nothing, nor does one that was there
// before.
HostTensor changed(const TokenBiasCase& c, const Inputs& in) {
  HostTensor z = in.logits;
  for (int64_t r = 0; r < z.rows; ++r) {
    if (in.mask.given() && in.mask.integer_at(r) == 0) continue;
    std::vector<bool> seen(at(z.cols));
    for (int64_t i = 0; i < in.ids.size(); ++i) {
      const int64_t id = in.ids.integer_at(i);
      if (id < 0 || id >= z.cols || seen[at(id)]) continue;
      seen[at(id)] = true;
      const float scaled = static_cast<float>(z.at(r, id)) * c.scale;
      z.set(r, id, static_cast<double>(scaled + c.add));
    }
  }
  return z;
}

// Exact to the bit, padding included, but for NaNs.
Complaint judge(const HostTensor& expected, const HostTensor& got) {
  for (int64_t r = 0; r < expected.rows; ++r) {
    for (int64_t i = 0; i < expected.cols; ++i) {
      const double want = expected.at(r, i), is = got.at(r, i);
      const bool same = std::isnan(want) ? std::isnan(is) : want == is;
      if (!same) return compare("logits", place(r, i), {want, 0}, is);
    }
  }
  return "";
}

Case case_of(const TokenBiasCase& c, bool spoiled) {
  Case result;
  const auto inputs = lazily([c, spoiled] {
    Inputs in = make_inputs(c);
    if (!spoiled) return in;
    std::vector<int64_t> ids = {-1, c.logits.cols};  // and each that exists, twice
    for (int twice = 0; twice < 2; ++twice) {
      for (int64_t i = 0; i < c.count; ++i) ids.push_back(in.ids.integer_at(i));
    }
    in.ids = make_integers(ids);
    return in;
  });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    exn_token_bias_params p = {};
    p.struct_size = sizeof p;
    p.logits = instance->in_out("logits", inputs().logits);
    p.ids = instance->input(inputs().ids);
    p.mask = instance->input(inputs().mask);
    p.scale = c.scale;
    p.add = c.add;
    instance->call(EXN_TEST_OP(token_bias), p);
    return instance;
  };
  result.judge = [c, inputs](const Outputs& got) { return judge(changed(c, inputs()), got[0]); };
  result.compulsory_bytes =
      2 * bytes_of(c.logits.rows * c.count, c.logits.type) + bytes_of(c.count, Type::kI32);
  result.description = {{"rows", text(c.logits.rows)},
                        {"cols", text(c.logits.cols)},
                        {"ids", text(c.count)},
                        {"dtype", quoted(name_of(c.logits.type))}};
  return result;
}

void describe(Maker& m, exn_token_bias_params& p) {
  const Dim rows = m.dim("rows", 0, 5, 60), vocab = m.dim("vocab", 1, 40, 300);
  const Dim count = m.dim("count", 0, 1, 1);  // more might be the same
  m.in_out(FIELD(logits), m.type(kFloats), {rows, vocab}, kRows);
  m.ids(FIELD(ids), {count}, {0, vocab.size - 1, true});
  m.in(FIELD(mask), kU8, {rows}, kOptional);
  m.real(FIELD(scale), Domain::kPositive);
  m.real(FIELD(add), Domain::kNotNan);
}

const Described kDescribed = EXN_DESCRIBED(token_bias);

const RegisteredOp kRegistered("token_bias", [] {
  const std::vector<TokenBiasCase> cases = read_cases<TokenBiasCase>("token_bias", read_case);
  auto all = listed<TokenBiasCase>("token_bias", cases, [](auto& c) { return case_of(c, false); });
  append_spoiled<TokenBiasCase>(&all, "token_bias", cases,
                                [](auto& c) { return case_of(c, true); });
  return all;
});

}  // namespace

}  // namespace token_bias_op
}  // namespace exn::test
