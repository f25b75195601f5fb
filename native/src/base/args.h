// SPDX-License-Identifier: Apache-2.0
// What the ABI layer hands a backend: one plain struct per op, every value checked. A pointer is
// null where an optional argument was left out, and nowhere else: that of an empty tensor is not,
// whatever its caller gave. So a null tells what was given, in every op and on every device.
#pragma once

#include <cstddef>
#include <cstdint>

#include <exeunt/exeunt.h>

namespace exn {

enum class DType : int32_t { kF32, kF16, kBF16, kF64, kI32, kI64, kU8 };

// Everything with code in this header is forced inline: the CPU kernels include it in translation
// units that are compiled for one instruction set each, and a shared out-of-line copy could carry
// instructions that another machine lacks.
#define EXN_INLINE inline __attribute__((always_inline))

EXN_INLINE int64_t size_of(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

// What the rows of a quantised matrix are made of: EXN_BLOCKS_*.
enum class Blocks : int32_t {
  kNone = EXN_BLOCKS_NONE,
  kQ4_0 = EXN_BLOCKS_Q4_0,
  kQ4_1 = EXN_BLOCKS_Q4_1,
  kQ5_0 = EXN_BLOCKS_Q5_0,
  kQ5_1 = EXN_BLOCKS_Q5_1,
  kQ8_0 = EXN_BLOCKS_Q8_0,
  kQ4_K = EXN_BLOCKS_Q4_K,
  kQ5_K = EXN_BLOCKS_Q5_K,
  kQ6_K = EXN_BLOCKS_Q6_K,
  kPanelsF32 = EXN_BLOCKS_PACKED_F32,
  kPanelsF16 = EXN_BLOCKS_PACKED_F16,
  kPanelsBF16 = EXN_BLOCKS_PACKED_BF16
};

// Elements, not blocks, that exn_pack_build arranged in panels of so many rows; and those of a type.
constexpr int64_t kPanelRows = 32;
EXN_INLINE constexpr bool in_panels(Blocks blocks) {
  return blocks == Blocks::kPanelsF32 || blocks == Blocks::kPanelsF16 ||
         blocks == Blocks::kPanelsBF16;
}
EXN_INLINE constexpr Blocks panels_of(DType dtype) {
  return dtype == DType::kF16    ? Blocks::kPanelsF16
         : dtype == DType::kBF16 ? Blocks::kPanelsBF16
                                 : Blocks::kPanelsF32;
}

// Whether exn_pack_build rearranged them, and what they were before.
EXN_INLINE constexpr bool is_packed(Blocks blocks) {
  return (static_cast<int32_t>(blocks) & EXN_BLOCKS_PACKED) != 0;
}
EXN_INLINE constexpr Blocks format_of(Blocks blocks) {
  return static_cast<Blocks>(static_cast<int32_t>(blocks) & ~EXN_BLOCKS_PACKED);
}
EXN_INLINE constexpr Blocks packed(Blocks blocks) {
  return static_cast<Blocks>(static_cast<int32_t>(blocks) | EXN_BLOCKS_PACKED);
}

// Of one block.
struct BlockShape {
  int32_t elements;
  int32_t bytes;
};

// {0, 0}: none has such a tag.
EXN_INLINE constexpr BlockShape shape_of(Blocks blocks) {
  if (in_panels(blocks)) return {1, blocks == Blocks::kPanelsF32 ? 4 : 2};
  switch (format_of(blocks)) {
    case Blocks::kNone:
    case Blocks::kPanelsF32:
    case Blocks::kPanelsF16:
    case Blocks::kPanelsBF16:
      break;
    case Blocks::kQ4_0:
      return {32, 18};
    case Blocks::kQ4_1:
      return {32, 20};
    case Blocks::kQ5_0:
      return {32, 22};
    case Blocks::kQ5_1:
      return {32, 24};
    case Blocks::kQ8_0:
      return {32, 34};
    case Blocks::kQ4_K:
      return {256, 144};
    case Blocks::kQ5_K:
      return {256, 176};
    case Blocks::kQ6_K:
      return {256, 210};
  }
  return {0, 0};
}

// Products of counts, which are not negative: INT64_MAX where one has no such number. Whatever a
// caller's numbers are multiplied with goes through here, unless a tensor has as many elements.
EXN_INLINE constexpr int64_t product(int64_t a, int64_t b) {
  int64_t all = 0;
  return __builtin_mul_overflow(a, b, &all) ? INT64_MAX : all;
}
template <class... More>
EXN_INLINE constexpr int64_t product(int64_t a, int64_t b, More... more) {
  return product(product(a, b), more...);
}

// Hands out pieces of the caller's workspace, each 64-byte aligned. Without one it only counts, and
// one that is too small turns out to have only counted: counting() tells, after the last piece. No
// workspace is large enough for more than kMostBytes, of which no count goes astray.
class Workspace {
 public:
  static constexpr size_t kMostBytes = size_t{1} << 62;

  EXN_INLINE Workspace() : base_(nullptr), bytes_(0), has_base_(false) {}
  EXN_INLINE Workspace(void* base, size_t bytes)
      : base_(static_cast<char*>(base)), bytes_(bytes), has_base_(true) {}

  template <class T>
  EXN_INLINE T* take(int64_t count) {
    const size_t at = used_;
    const auto bytes = static_cast<size_t>(product(count, static_cast<int64_t>(sizeof(T))));
    used_ += bytes < kMostBytes ? (bytes + 63) / 64 * 64 : kMostBytes + 1;
    if (used_ > kMostBytes) used_ = kMostBytes + 1;
    return counting() ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  EXN_INLINE bool counting() const { return !has_base_ || used_ > bytes_ || used_ > kMostBytes; }
  EXN_INLINE size_t used() const { return used_; }

 private:
  char* base_;
  size_t bytes_;
  size_t used_ = 0;
  bool has_base_;
};

// A matrix with unit column stride. data is null when the argument was left out, here as below.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;             // elements between rows
  Blocks blocks = Blocks::kNone;  // else dtype is u8, and stride in bytes; cols are elements still
};

// Bytes of a row without its padding.
EXN_INLINE int64_t row_bytes(const Matrix& m) {
  if (m.blocks == Blocks::kNone) return m.cols * size_of(m.dtype);
  const BlockShape block = shape_of(m.blocks);
  return m.cols / block.elements * block.bytes;
}

// A compact vector (or a compact tensor seen flat).
struct Vector {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t size = 0;
};

// [R,H,dh] with compact heads.
struct Heads {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t dim = 0;     // dh
  int64_t stride = 0;  // elements between rows
};

// A tensor of any rank, seen along one axis as [outer, size, inner]; strides in elements.
struct Axis {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t outer = 1;
  int64_t size = 0;
  int64_t inner = 1;
  int64_t outer_stride = 0;
  int64_t stride = 0;
};

// A described KV cache; strides in elements. Paged if `blocks` is not null: then
// sequence_stride is unused.
struct KvCache {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF32;
  int64_t sequences = 0;
  int64_t heads = 0;
  int64_t slots = 0;  // T, capacity of a sequence
  int64_t dim = 0;
  int64_t sequence_stride = 0;
  int64_t head_stride = 0;
  int64_t slot_stride = 0;
  const int32_t* blocks = nullptr;  // [sequences, block_count]
  int64_t block_count = 0;
  int64_t page = 0;   // slots of a page
  int64_t pages = 0;  // P
  int64_t page_stride = 0;
};

// RoPE: cosines and sines [positions, pairs, 2].
struct RopeTable {
  const float* data = nullptr;
  int64_t positions = 0;
  int64_t pairs = 0;
};

// Null where not asked for.
struct StatsOut {
  int32_t* argmax = nullptr;
  float* max_logit = nullptr;
  float* lse = nullptr;
  float* p1 = nullptr;
  float* p2 = nullptr;
  float* margin = nullptr;
  float* entropy = nullptr;
  float* pow2_entropy = nullptr;
  float* mean_log_p = nullptr;
  uint8_t* valid = nullptr;
};

struct RowStatsArgs {
  int32_t device = 0;
  Matrix logits;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
};

struct ExitHeadArgs {
  int32_t device = 0;
  Matrix hidden;
  Matrix weight;
  const float* bias = nullptr;         // [V]
  const float* norm_weight = nullptr;  // [D]
  const float* norm_bias = nullptr;    // [D]
  Matrix translator;                   // [D,D]
  const float* translator_bias = nullptr;
  Vector shortlist;  // i32 [N]
  int32_t norm = 0;
  float norm_eps = 0;
  int32_t translate = 0;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
  const char* screen = nullptr;  // the image, whose header is sound where the CPU can read it
  int64_t screen_bytes = 0;
  uint8_t* certified = nullptr;
  float* p1_low = nullptr;
  float* p1_high = nullptr;
  int32_t* rows_read = nullptr;
  int64_t screen_budget = 0;
  int32_t screen_level = 0;
  float screen_factor = 0;  // 0: proven bounds
};

struct StableMaxArgs {
  int32_t device = 0;
  Matrix logits;
  Matrix out;
  int32_t normalizer = 0;
  bool log = false;
};

struct CrossEntropyArgs {
  int32_t device = 0;
  Matrix logits;
  Vector labels;  // i32 or i64
  Vector loss;    // f64 or f32; may be null
  Matrix grad;    // may be null
  int64_t ignore_index = 0;
  int32_t normalizer = 0;
  int32_t reduction = 0;
};

struct PerpGradArgs {
  int32_t device = 0;
  Vector weight;
  Vector grad;
  Vector out;
  int32_t form = 0;
};

// The rows of out are as many as ids.
struct EmbeddingArgs {
  int32_t device = 0;
  Matrix table;
  const int32_t* ids = nullptr;  // [rows of out]
  Matrix out;
  float scale = 1;
};

struct CosineArgs {
  int32_t device = 0;
  Matrix a;
  Matrix b;
  float* out = nullptr;
};

struct GateArgs {
  int32_t device = 0;
  Matrix features;
  Matrix hidden_weight;  // [D,D] or [repeats*D,D]
  const float* hidden_bias = nullptr;
  Matrix out_weight;  // [O,D]
  const float* out_bias = nullptr;
  float* prob = nullptr;
  int32_t kind = 0;
  int32_t repeats = 0;
};

struct ExitRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const float* score = nullptr;
  const int32_t* label = nullptr;
  const uint8_t* valid = nullptr;
  const int32_t* step = nullptr;
  int32_t* state = nullptr;
  uint8_t* exit_mask = nullptr;
  int32_t* active_list = nullptr;
  int32_t* active_count = nullptr;
  int32_t* exit_layer = nullptr;
  int32_t rule = 0;
  int32_t comparator = 0;
  int32_t decay = 0;
  int32_t scope = 0;
  float threshold = 0;
  float decay_tau = 0;
  float decay_horizon = 1;
  int32_t step_index = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  int32_t layer = 0;
  int32_t first = 0;
  int32_t force = 0;
};

struct NormArgs {
  int32_t device = 0;
  Matrix input;
  Matrix out;
  const float* weight = nullptr;  // [D]
  const float* bias = nullptr;    // [D]
  int32_t norm = 0;
  float eps = 0;
};

struct RopeTableArgs {
  int32_t device = 0;
  float* table = nullptr;  // [positions, pairs, 2]
  int64_t positions = 0;
  int64_t pairs = 0;
  double base = 1;     // NTK applied
  double divisor = 1;  // of the position
};

struct RopeArgs {
  int32_t device = 0;
  Heads input;
  Heads out;
  const int32_t* position = nullptr;
  RopeTable table;
  int32_t style = 0;
};

struct LinearArgs {
  int32_t device = 0;
  Matrix input;
  Matrix weight;
  const float* bias = nullptr;  // [N]
  Matrix residual;
  Matrix out;
};

struct KvAppendArgs {
  int32_t device = 0;
  KvCache cache;
  Heads k;
  Heads v;
  const int32_t* sequence = nullptr;
  const int32_t* slot = nullptr;
};

struct KvCopyArgs {
  int32_t device = 0;
  KvCache source;
  KvCache destination;
  int64_t count = 0;
  const int32_t* from_sequence = nullptr;
  const int32_t* from_slot = nullptr;
  const int32_t* to_sequence = nullptr;
  const int32_t* to_slot = nullptr;
};

struct KvLengthArgs {
  int32_t device = 0;
  int32_t* length = nullptr;
  int64_t lengths = 0;
  int64_t rows = 0;
  const int32_t* sequence = nullptr;
  const uint8_t* active = nullptr;
  int32_t* slot = nullptr;
  int32_t* visible = nullptr;
  const int32_t* limit = nullptr;
  bool one_limit = false;
  int64_t capacity = 0;
  int32_t action = 0;
};

struct AttentionArgs {
  int32_t device = 0;
  Heads query;
  KvCache cache;
  const int32_t* sequence = nullptr;
  const int32_t* visible = nullptr;
  Heads out;
  float* scores = nullptr;  // [R, H, score_slots]
  int64_t score_slots = 0;
  float scale = 1;
  float softcap = 0;
};

struct KvLayer {
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  Matrix k_weight;
  const float* k_bias = nullptr;
  Matrix v_weight;
  const float* v_bias = nullptr;
  KvCache cache;
  int32_t index = 0;
};

struct KvPropagateArgs {
  int32_t device = 0;
  Matrix hidden;
  const int32_t* exit_layer = nullptr;
  const int32_t* sequence = nullptr;
  const int32_t* slot = nullptr;
  int64_t slot_stride = 0;  // between layers; 0: one row of slots for all
  const int32_t* position = nullptr;
  RopeTable table;  // data null: no RoPE
  // The layers, one at a time: all of them, up to 128, would not fit a small stack. `first` is that
  // of index 0, with which the others agree in types and sizes.
  KvLayer first;
  KvLayer layer(int32_t which) const { return layer_of(*this, which); }
  KvLayer (*layer_of)(const KvPropagateArgs& args, int32_t which) = nullptr;
  const exn_kv_layer* source = nullptr;  // for layer_of alone: what the caller gave
  int32_t layer_count = 0;
  int32_t model_layers = 0;
  int32_t rope_style = 0;
  int32_t norm = 0;
  float norm_eps = 0;
};

struct HiddenStackArgs {
  int32_t device = 0;
  Matrix stack;
  int32_t* stack_tags = nullptr;
  int64_t tag_count = 0;  // M
  int32_t* count = nullptr;
  Matrix rows;
  int32_t* tags = nullptr;
  const uint8_t* mask = nullptr;
  int32_t* overflow = nullptr;
  int32_t action = 0;
};

struct RowCompactionArgs {
  int32_t device = 0;
  Matrix input;
  Matrix out;
  const int32_t* list = nullptr;
  int64_t listed = 0;  // K
  int32_t direction = 0;
};

struct LayerScheduleArgs {
  int32_t device = 0;
  int64_t positions = 0;
  int64_t model_layers = 0;
  int32_t* layers = nullptr;
  int32_t* count = nullptr;
  uint8_t* exit_test = nullptr;
  float* threshold = nullptr;
  const int32_t* order = nullptr;
  int64_t order_count = 0;
  int32_t kind = 0;
  int32_t prompt = 0;
  int32_t horizon = 1;
  int32_t most = 0;
  int32_t least = 0;
  int32_t warm_up = 0;
  int32_t first_exit = 0;
  int32_t min_exit = 0;
  int32_t interval = 1;
  int32_t decay = 0;
  float start_threshold = 0;
  float tau = 0;
};

struct FfnArgs {
  int32_t device = 0;
  Matrix hidden;
  Matrix out;
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  Matrix gate_weight;
  const float* gate_bias = nullptr;
  Matrix up_weight;
  const float* up_bias = nullptr;
  Matrix down_weight;
  const float* down_bias = nullptr;
  const uint8_t* skip = nullptr;
  float* cosine = nullptr;
  float* branch_cosine = nullptr;
  int32_t norm = 0;
  float norm_eps = 0;
  int32_t activation = 0;
};

struct FfnSkipRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const float* cosine = nullptr;
  const int32_t* token = nullptr;
  int32_t* state = nullptr;
  uint8_t* skip = nullptr;
  int32_t layer = 0;
  int32_t cold_start = 0;
  int32_t cold_end = 0;
  int32_t warm_up = 0;
  int32_t token_index = 0;
  int32_t budget = -1;
  float threshold = 0;
};

// How many columns of each row are kept, and where the list goes (exn_selection). indices is null
// where none is made.
struct Selection {
  int32_t* indices = nullptr;         // [rows, capacity]
  int64_t capacity = 0;               // K
  int32_t* count = nullptr;           // [rows]
  uint8_t* valid = nullptr;           // [rows]
  const int32_t* budget = nullptr;    // [rows, segment_count]
  const int32_t* segments = nullptr;  // [segment_count + 1]; null: one of all columns
  int64_t segment_count = 1;
  const int32_t* keep = nullptr;  // [keep_count, 2] for each row, keep_stride elements apart
  int64_t keep_count = 0;
  int64_t keep_stride = 0;  // 0: one set for all rows
  const int32_t* drop = nullptr;
  int64_t drop_count = 0;
  int64_t drop_stride = 0;
  int64_t k = 0;

  EXN_INLINE bool writes() const { return capacity > 0 || count != nullptr || valid != nullptr; }
};

struct SelectArgs {
  int32_t device = 0;
  Matrix scores;                   // [rows * heads, N]
  const int32_t* limit = nullptr;  // [rows]
  Selection selection;
  int64_t heads = 1;  // rows of scores that are summed for one of the selection

  EXN_INLINE int64_t rows() const { return scores.rows / heads; }
};

struct AttentionScoresArgs {
  int32_t device = 0;
  Heads query;
  KvCache keys;                       // v is null or not to be read
  const int32_t* sequence = nullptr;  // [prompts]; null: prompt s is sequence s
  const int32_t* visible = nullptr;   // [prompts * window]
  const int32_t* limit = nullptr;     // [prompts]
  float* scores = nullptr;            // [prompts, score_heads, columns]; null only with a selection
  Selection selection;                // rows: prompts * score_heads
  int64_t prompts = 0;
  int64_t window = 1;
  int64_t columns = 0;
  int64_t first = 0;
  int64_t score_heads = 1;
  float scale = 1;
  int32_t kind = 0;
  int32_t reduction = 0;
  int32_t pool = 0;
  int32_t pool_width = 1;  // 1 without pooling
  bool accumulate = false;
};

struct HiredBudgetArgs {
  int32_t device = 0;
  Matrix attention;           // [images, patch_rows * patch_cols]
  int32_t* budget = nullptr;  // [images, 1 + grid_rows * grid_cols]
  uint8_t* marks = nullptr;   // [images, patches]
  uint8_t* valid = nullptr;   // [images]
  int64_t patch_rows = 1;
  int64_t patch_cols = 1;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  // What rate and alpha come to: they do not depend on the attention.
  int64_t full_budget = 0;  // B_full
  int64_t sub_budget = 0;   // B_sub
  int64_t mark_count = 0;   // int(Nv * (1 - alpha))
  int32_t score = 0;
  int32_t region = 0;
  int32_t remainder = 0;
};

// A tensor seen as [outer, entries, bytes of an entry]. Strides in bytes.
struct GatherItem {
  const char* input = nullptr;
  char* out = nullptr;
  bool in_place = false;  // input and out are one
  int64_t element = 1;    // bytes of an element: the alignment that may be counted on
  int64_t outer = 1;
  int64_t bytes = 0;  // of an entry
  int64_t input_outer_stride = 0;
  int64_t input_stride = 0;  // between entries
  int64_t out_outer_stride = 0;
  int64_t out_stride = 0;
};

struct GatherArgs {
  int32_t device = 0;
  const int32_t* list = nullptr;
  int64_t listed = 0;  // K
  const int32_t* count = nullptr;
  const int32_t* position = nullptr;
  int32_t* position_out = nullptr;
  int32_t* moved = nullptr;
  int64_t rows = 0;  // N
  int32_t item_count = 0;
  int32_t positions = 0;
  int32_t first_position = 0;
  bool positions_in_place = false;
  bool in_place = false;  // of at least one tensor, or the positions
  GatherItem items[EXN_GATHER_MAX_TENSORS];
};

struct KvCompactArgs {
  int32_t device = 0;
  KvCache source;
  KvCache destination;
  const int32_t* list = nullptr;
  int64_t list_size = 0;              // M, or lists * list_stride
  const int32_t* offsets = nullptr;   // [lists + 1]; null: padded lists, list_stride apart
  const int32_t* count = nullptr;     // [lists], with list_stride
  int64_t list_stride = 0;            // K
  const int32_t* sequence = nullptr;  // [sequences]
  const int32_t* length = nullptr;    // [sequences]
  int32_t* new_length = nullptr;      // [lists]
  int32_t* freed = nullptr;
  int64_t freed_capacity = 0;  // F
  int32_t* freed_count = nullptr;
  int64_t sequences = 0;  // B
  int64_t lists = 0;
  bool per_head = false;
  bool in_place = false;
};

// Every op: its name in the C ABI and the arguments of its kernels. The tables of backends and of
// instruction sets are made from this list.
#define EXN_FOR_EACH_OP(X)                 \
  X(row_stats, RowStatsArgs)               \
  X(exit_head, ExitHeadArgs)               \
  X(stablemax, StableMaxArgs)              \
  X(cross_entropy, CrossEntropyArgs)       \
  X(perp_grad, PerpGradArgs)               \
  X(cosine, CosineArgs)                    \
  X(gate, GateArgs)                        \
  X(exit_rule, ExitRuleArgs)               \
  X(norm, NormArgs)                        \
  X(rope_table, RopeTableArgs)             \
  X(rope, RopeArgs)                        \
  X(linear, LinearArgs)                    \
  X(kv_append, KvAppendArgs)               \
  X(kv_copy, KvCopyArgs)                   \
  X(kv_length, KvLengthArgs)               \
  X(attention, AttentionArgs)              \
  X(kv_propagate, KvPropagateArgs)         \
  X(hidden_stack, HiddenStackArgs)         \
  X(row_compaction, RowCompactionArgs)     \
  X(layer_schedule, LayerScheduleArgs)     \
  X(ffn, FfnArgs)                          \
  X(ffn_skip_rule, FfnSkipRuleArgs)        \
  X(attention_scores, AttentionScoresArgs) \
  X(select, SelectArgs)                    \
  X(hired_budget, HiredBudgetArgs)         \
  X(gather, GatherArgs)                    \
  X(kv_compact, KvCompactArgs)             \
  X(embedding, EmbeddingArgs)

}  // namespace exn
