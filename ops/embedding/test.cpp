// SPDX-License-Identifier: Apache-2.0
#include "blocks.h"
#include "cache_fixture.h"

namespace exn::test {
namespace {
using P = exn_embedding_params;
const Op<P> kOp = EXN_TEST_OP(embedding);

// Elements are moved as they are: NaNs of every payload, signalling ones too.
TEST(Embedding, MovesWhateverThereIs) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (Type type : {Type::kF32, Type::kF16, Type::kBF16}) {
      for (int64_t dim : {1, 7, 64}) {
        HostTensor words = make_tensor(type, {5, dim});
        put_words(&words, 0, 5 * dim, 3, 0, 0);
        Placed table(target, words), ids(target, make_integers({4, 0, 4, 1}));
        Placed out(target, poisoned(type, {4, dim}));
        const P p = {sizeof p, table.dl(), ids.dl(), out.dl(), 1, EXN_BLOCKS_NONE};
        exercise(target, kOp, p, {&table, &ids}, {&out});
        HostTensor expected = make_tensor(type, {4, dim});
        for (int64_t r = 0; r < 4; ++r)
          copy_row(words, std::vector<int64_t>{4, 0, 4, 1}[static_cast<size_t>(r)], &expected, r);
        EXPECT_EQ(out.read().bytes, expected.bytes) << name_of(type) << ", " << dim;
      }
    }
  }
}

class EmbeddingMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed table_{kCpu, normal(Type::kBF16, {6, 64})}, ids_{kCpu, make_integers({5, 0, 3})};
  Placed out_{kCpu, poisoned(Type::kF32, {3, 64})};
  P p_ = {sizeof p_, table_.dl(), ids_.dl(), out_.dl(), 1, EXN_BLOCKS_NONE};

  void refused(const Words& words) {
    expect_refused(kOp, p_, {&out_}, EXN_INVALID_ARGUMENT, words);
  }
};

TEST_F(EmbeddingMisuse, AScaleOfZero) {
  Spoiler<P> spoil(kOp, p_, {&out_});
  for (float bad : {0.0f, -0.0f}) spoil.value(&P::scale, bad, {"scale is 0"});
}

TEST_F(EmbeddingMisuse, OfNothing) {
  int64_t& entries = table_.mutable_dl()->shape[0];
  entries = 0;
  refused({"V (rows of table) is 0", "at least 1"});
  entries = 6;
  Placed narrow(kCpu, poisoned(Type::kF32, {3, 0}));
  p_.out = narrow.dl();
  refused({"D (columns of out) is 0", "at least 1"});
}

TEST_F(EmbeddingMisuse, OfBlocks) {
  Placed blocks(kCpu, make_blocks(*block_format("q8_0"), 6, 64, 0, 0));
  p_.table_blocks = EXN_BLOCKS_Q8_0;
  refused({"table", "bf16", "u8"});
  p_.table = blocks.dl();
  p_.table_blocks = EXN_BLOCKS_Q6_K;
  refused({"out", "the 64 of out", "table_blocks is 14", "256"});
}

}  // namespace
}  // namespace exn::test
