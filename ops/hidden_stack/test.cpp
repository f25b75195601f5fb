// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <deque>

#include "cache_fixture.h"
#include "misuse.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(hidden_stack);

using P = exn_hidden_stack_params;

// ---- what comes off the stack goes on -----------------------------------------------------------

enum Tag { kSequence, kSlot, kPosition, kVisible, kExitLayer, kTags };

// One row of gathered tags, as an op takes it.
class TagRow {
 public:
  TagRow(const Placed& tags, int64_t tag) : size_(tags.dl()->shape[1]), dl_(*tags.dl()) {
    dl_.ndim = 1;
    dl_.shape = &size_;
    dl_.strides = nullptr;
    dl_.byte_offset += static_cast<uint64_t>(tag * size_) * sizeof(int32_t);
  }
  TagRow(const TagRow&) = delete;
  const DLTensor* dl() const { return &dl_; }

 private:
  int64_t size_;
  DLTensor dl_;
};

template <class Params>
void run_op(const Target& target, const char* name,
            exn_status (*size_of_workspace)(const Params*, size_t*),
            exn_status (*run)(const Params*, void*, size_t, exn_stream), const Params& params) {
  const Op<Params> op = {name, nullptr, size_of_workspace, run};
  ASSERT_EQ(run_once(target, op, params), EXN_OK) << name << ": " << exn_last_error();
}

// What the ops after a gather leave, of R rows and their tags.
struct Followed {
  HostTensor turned, appended, owed, attended;
};

Followed follow(const Target& target, const CacheSpec& spec, const Placed& rows,
                const Placed& tags) {
  const int64_t n = tags.dl()->shape[1];
  std::deque<TagRow> ids;
  for (int64_t tag = 0; tag < kTags; ++tag) ids.emplace_back(tags, tag);
  int64_t shape[3] = {n, 2, spec.dim};
  DLTensor heads = *rows.dl();
  heads.ndim = 3;
  heads.shape = shape;
  heads.strides = nullptr;
  Placed table(target, normal(Type::kF32, {6, 4, 2}, 2));
  Placed turned(target, zeros(Type::kF32, {n, 2, spec.dim}));
  Placed attended(target, poisoned(Type::kF32, {n, 2, spec.dim}));
  PlacedCache appended(target, spec, zero_cache(spec)), owed(target, spec, zero_cache(spec));
  Placed weight(target, normal(Type::kF32, {2 * spec.dim, 2 * spec.dim}, 3));

  exn_rope_params rope = {};
  rope.struct_size = sizeof rope;
  rope.input = &heads;
  rope.position = ids[kPosition].dl();
  rope.table = table.dl();
  rope.out = turned.dl();
  run_op(target, "rope", exn_rope_workspace_size, exn_rope, rope);

  exn_kv_append_params append = {};
  append.struct_size = sizeof append;
  append.cache = appended.dl();
  append.k = turned.dl();
  append.v = &heads;
  append.sequence = ids[kSequence].dl();
  append.slot = ids[kSlot].dl();
  run_op(target, "kv_append", exn_kv_append_workspace_size, exn_kv_append, append);

  exn_kv_layer layer = {};
  layer.k_weight = layer.v_weight = weight.dl();
  layer.cache = owed.dl();
  layer.index = 1;
  exn_kv_propagate_params propagate = {};
  propagate.struct_size = sizeof propagate;
  propagate.hidden = rows.dl();
  propagate.exit_layer = ids[kExitLayer].dl();
  propagate.sequence = ids[kSequence].dl();
  propagate.slot = ids[kSlot].dl();
  propagate.position = ids[kPosition].dl();
  propagate.rope_table = table.dl();
  propagate.layers = &layer;
  propagate.layer_count = 1;
  propagate.model_layers = 2;
  run_op(target, "kv_propagate", exn_kv_propagate_workspace_size, exn_kv_propagate, propagate);

  exn_attention_params attention = {};
  attention.struct_size = sizeof attention;
  attention.query = turned.dl();
  attention.cache = appended.dl();
  attention.sequence = ids[kSequence].dl();
  attention.visible = ids[kVisible].dl();
  attention.out = attended.dl();
  attention.scale = 1;
  run_op(target, "attention", exn_attention_workspace_size, exn_attention, attention);
  return {turned.read(), appended.k.read(), owed.k.read(), attended.read()};
}

// Three rows are pushed, two of them come out, and the ops that follow take more rows and the tags
// of them all as they are: with the result that they have for the two alone.
TEST(HiddenStackTags, SwitchOffWhatIsNotThere) {
  for (const Target& target : targets()) {
    for (int32_t layout : {EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED}) {
      SCOPED_TRACE(target.name() + ", layout " + std::to_string(layout));
      const CacheSpec spec = little_cache(layout);
      const HostTensor from = normal(Type::kF32, {3, 16});
      Placed stack(target, poisoned(Type::kF32, {5, 16})),
          stack_tags(target, poisoned(Type::kI32, {kTags, 5})), count(target, make_integers({0}));
      Placed pushed(target, from), mask(target, filled(Type::kU8, {3}, 1));
      HostTensor tags = make_tensor(Type::kI32, {kTags, 3});
      const int32_t values[] = {1, 0, 0, 2, 0, 0, 5, 0, 2, 3, 1, 1, 0, 2, 1};
      for (int64_t i = 0; i < tags.size(); ++i) tags.set_integer(i, values[i]);
      HostTensor two = make_tensor(Type::kI32, {kTags, 2}), rows = make_tensor(Type::kF32, {2, 16});
      for (int64_t i = 0; i < two.size(); ++i) two.set_integer(i, values[i / 2 * 3 + i % 2 * 2]);
      for (int64_t i = 0; i < 32; ++i) rows.set(i / 16, i % 16, from.at(i / 16 * 2, i % 16));
      HostTensor some = mask.initial();
      some.bytes[1] = 0;
      Placed leaves(target, some), pushed_tags(target, tags);
      const P push = {sizeof push,      stack.dl(),  stack_tags.dl(), count.dl(),     pushed.dl(),
                      pushed_tags.dl(), leaves.dl(), nullptr,         EXN_STACK_PUSH, 0};
      ASSERT_EQ(run_once(target, kOp, push), EXN_OK) << exn_last_error();
      Placed out(target, zeros(Type::kF32, {4, 16})),
          out_tags(target, poisoned(Type::kI32, {kTags, 4}));
      const P gather = {sizeof gather, stack.dl(), stack_tags.dl(), count.dl(),       out.dl(),
                        out_tags.dl(), nullptr,    nullptr,         EXN_STACK_GATHER, 0};
      ASSERT_EQ(run_once(target, kOp, gather), EXN_OK) << exn_last_error();

      const Followed got = follow(target, spec, out, out_tags);
      const Followed expected = follow(target, spec, Placed(target, rows), Placed(target, two));
      if (HasFailure()) return;
      EXPECT_EQ(got.appended.bytes, expected.appended.bytes);
      EXPECT_EQ(got.owed.bytes, expected.owed.bytes);
      for (int64_t i = 0; i < 64; ++i) {
        EXPECT_EQ(got.turned.at(0, i), i < 32 ? expected.turned.at(0, i) : 0) << i;
        EXPECT_NEAR(got.attended.at(0, i), i < 32 ? expected.attended.at(0, i) : 0, 1e-5) << i;
      }
    }
  }
}

// A count that no push leaves: a device cannot refuse it, but says so.
TEST(HiddenStackCount, OutOfRange) {
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    for (int32_t bad : {-1, -77, 6, 8, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", count " + std::to_string(bad));
      Placed stack(target, poisoned(Type::kF32, {5, 8})), count(target, make_integers({bad}));
      Placed rows(target, poisoned(Type::kF32, {7, 8})), overflow(target, make_integers({-5}));
      Placed stack_tags(target, zeros(Type::kI32, {2, 5})),
          tags(target, poisoned(Type::kI32, {2, 7}));
      const P p = {sizeof p,  stack.dl(), stack_tags.dl(), count.dl(),       rows.dl(),
                   tags.dl(), nullptr,    overflow.dl(),   EXN_STACK_GATHER, 0};
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      EXPECT_GT(overflow.read().integer_at(0), 0);
      EXPECT_TRUE(rows.unchanged());
      overflow.reset();
      Placed no_row(target, filled(Type::kU8, {7}, 0));
      P push = p;
      push.mask = no_row.dl();
      push.action = EXN_STACK_PUSH;
      ASSERT_EQ(run_once(target, kOp, push), EXN_OK) << exn_last_error();
      EXPECT_GT(overflow.read().integer_at(0), 0);
      EXPECT_EQ(count.read().integer_at(0), bad);
      for (int64_t i = 0; i < 14; ++i) EXPECT_EQ(tags.read().integer_at(i), -1) << i;
    }
  }
}

class HiddenStackMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed stack_{kCpu, poisoned(Type::kF32, {5, 8})},
      stack_tags_{kCpu, poisoned(Type::kI32, {2, 5})}, count_{kCpu, make_integers({1})};
  Placed mask_{kCpu, filled(Type::kU8, {3}, 1)}, overflow_{kCpu, poisoned(Type::kI32, {1})};
};

TEST_F(HiddenStackMisuse, Push) {
  Placed rows(kCpu, normal(Type::kF32, {3, 8})), tags(kCpu, zeros(Type::kI32, {2, 3}));
  const P p = {sizeof p,  stack_.dl(), stack_tags_.dl(), count_.dl(),    rows.dl(),
               tags.dl(), mask_.dl(),  overflow_.dl(),   EXN_STACK_PUSH, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_};
  Spoiler<P> spoil(kOp, p, written);
  spoil.value<const DLTensor*>(&P::stack_tags, nullptr, {"tags", "stack_tags"});
  for (int32_t bad : {6, -1}) {
    const Poke poke(&count_, 0, bad);
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
    expect_words({"count[0]", std::to_string(bad), "0..5"});
  }
  {
    const Poke full(&count_, 0, 3);
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
    expect_words({"count is 3", "3 rows", "stack has 5 rows"});
    EXPECT_EQ(count_.read().integer_at(0), 3);
  }
  for (const Placed* t : written) EXPECT_TRUE(t->unchanged());
}

TEST_F(HiddenStackMisuse, Gather) {
  Placed rows(kCpu, poisoned(Type::kF32, {3, 8})), tags(kCpu, poisoned(Type::kI32, {2, 3}));
  const P p = {sizeof p,  stack_.dl(), stack_tags_.dl(), count_.dl(),      rows.dl(),
               tags.dl(), nullptr,     overflow_.dl(),   EXN_STACK_GATHER, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_, &rows, &tags};
  Spoiler<P> spoil(kOp, p, written);
  spoil.overlap(&rows, "rows", stack_, "stack");
  const Poke many(&count_, 0, 4);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
  expect_words({"count is 4", "rows has 3 rows"});
  EXPECT_TRUE(rows.unchanged() && tags.unchanged() && overflow_.unchanged());
}

TEST_F(HiddenStackMisuse, Clear) {
  Placed rows(kCpu, normal(Type::kF32, {3, 8})), tags(kCpu, zeros(Type::kI32, {2, 3}));
  const P p = {sizeof p, stack_.dl(), stack_tags_.dl(), count_.dl(),     nullptr,
               nullptr,  nullptr,     overflow_.dl(),   EXN_STACK_CLEAR, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_};
  Spoiler<P> spoil(kOp, p, written);
  spoil.value(&P::rows, rows.dl(), {"rows", "EXN_STACK_CLEAR"});
  // A count that means nothing is what a clear is for.
  const Poke nonsense(&count_, 0, -77);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  EXPECT_EQ(count_.read().integer_at(0), 0);
}

}  // namespace
}  // namespace exn::test
