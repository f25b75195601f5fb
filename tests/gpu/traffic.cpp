// SPDX-License-Identifier: Apache-2.0
#include "traffic.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace exn::gpu {
namespace {

constexpr double kMostWaste = 1.02;
constexpr double kEnoughBytes = 16384;
constexpr double kEnoughBytesUnlessTimed = 65536;

// What may waste more than that, and why. It is printed, so that it is not taken for the rule. The
// limits are what was measured, rounded up, with the multiprocessors of an A100: launchers give
// each of them a block where they can, and what blocks share is read by every one.
struct KnownWaste {
  const char* op;
  const char* id;
  double most;
  const char* why;
};
constexpr const char* kFewWeights =
    "few weights here: x goes to the workspace as f32 first, and a state per row and tile";
constexpr const char* kPartSums =
    "the depth is cut into P parts so that few outputs keep the SMs busy: 4 * P * R * V are "
    "written to the workspace, and, of more than 8 rows or for quantised weights, R * D * 4 of x as "
    "f32";
constexpr const char* kKeyStates =
    "the keys are cut into parts so that one row keeps the SMs busy: 4 * dim + 8 are written to "
    "the workspace for each part and query";
constexpr const char* kProducts =
    "a softmax over all columns: products go to the workspace first, 4 * H * N written";
constexpr const char* kSums =
    "a row of more than 8192 sums, which go to the workspace: 4 * N written";
constexpr const char* kTeams =
    "blocks that share a row count its digits, and say how much they list, in device memory: some "
    "10 KiB for each row, and more for each segment";
constexpr const char* kLayers =
    "few weights here: what each layer makes goes to the workspace as f32, 4 * R * D";
constexpr const char* kBounds =
    "a logit and its bound for each row of the vocabulary go to the workspace: 8 * R * V written; "
    "and the rows of the head that were read";
constexpr const char* kMeeting =
    "what blocks count of the scores' digits, and how many tiles have equal ones";
constexpr const char* kWords =
    "a step's words of state, plan and lists lie in sectors of their own";
constexpr const char* kScattered =
    "a logit is 4 bytes of a sector of 32; each block looks at its ids and those before, lest one "
    "that is listed twice is changed twice";
constexpr const char* kFewClasses =
    "rows are short: whether an earlier one has their sample, their losses and the count of labels "
    "go through the workspace";
constexpr const char* kPasses =
    "no block holds a row: five passes over it, and two over its target";
constexpr const char* kChannels =
    "A is read for each sequence; each channel asks for its row's b and c, which a warp has in "
    "common";
constexpr const char* kColumnParts =
    "rows are cut into splits so that a few columns keep the SMs busy: 8 bytes for each split and "
    "column pass the workspace";
constexpr const char* kWholeDrafts =
    "all rows of a draft are read at once, before it is known which of them rejects: K + 1 rows in "
    "place of a + 1; and the one that is drawn from once more";
constexpr KnownWaste kKnownWaste[] = {
    {"draft_rule", "bench_del_64", 1.07, kWords},
    {"token_bias", "ids_2500", 1.89, kScattered},
    {"token_bias", "bench_256x4096", 7.50, kScattered},
    {"token_bias", "bench_64x49152_1000", 7.42, kScattered},
    {"elr", "bench_128x10", 1.32, kFewClasses},
    {"elr", "bench_128x100", 1.03, kFewClasses},
    {"elr", "bench_1000x100", 1.03, kFewClasses},
    {"column_norms", "*", 1.03, kColumnParts},
    {"prune_mask", "threads_old_norm", 1.03, kMeeting},
    {"exit_head", "shared_8x576x384_bf16", 1.06, kFewWeights},
    {"exit_head", "shared_64x576x384_bf16", 1.32, kFewWeights},
    {"exit_head", "bench_1x576x49152_bf16_screen", 1.04, kBounds},
    {"exit_head", "bench_8x576x49152_bf16_screen", 1.27, kBounds},
    {"linear", "model_576x1536_r8", 1.15, kPartSums},
    {"linear", "model_576x1536_r64", 2.06, kPartSums},
    {"linear", "model_4096x1024_r8*", 1.11, kPartSums},
    {"linear", "q4_1_576x1536_r1", 1.04, kPartSums},
    {"linear", "q4_k_2048x2048_r1", 1.04, kPartSums},
    {"linear", "q4_k_2048x2048_r8", 1.21, kPartSums},
    {"ffn", "model_576x1536_r1", 1.03, kPartSums},
    {"ffn", "model_576x1536_r8", 1.11, kPartSums},
    {"ffn", "model_576x1536_r8_alternate", 1.08, kPartSums},
    {"ffn", "model_576x1536_r1_q4_1", 1.04, kPartSums},
    {"ffn", "model_576x1536_r8_q4_1", 1.22, kPartSums},
    {"gate", "bench_1x576_residual_3", 1.07, kPartSums},
    {"gate", "bench_1x576_residual_3_q4_1", 1.15, kLayers},
    {"kv_propagate", "model_576_r8", 1.10, kPartSums},
    {"kv_propagate", "model_576_r1_q4_1", 1.04, kPartSums},
    {"attention", "bench_decode_group_4_head", 1.04, kKeyStates},
    {"attention", "bench_decode_group_4_token", 1.04, kKeyStates},
    {"attention", "bench_decode_group_4_paged", 1.04, kKeyStates},
    {"attention", "bench_decode_scores", 1.04, kKeyStates},
    {"attention_scores", "bench_score_32", 1.07, kProducts},
    {"attention_scores", "bench_score_32_token", 1.07, kProducts},
    {"attention_scores", "bench_score_32_paged", 1.07, kProducts},
    {"attention_scores", "bench_hired_5", 1.04, kProducts},
    {"select", "heads_8193", 1.50, kSums},
    {"select", "heads_9000_limit", 1.49, kSums},
    {"select", "heads_9000_nan_last", 1.51, kSums},
    {"select", "heads_4_8193_rows_3", 1.23, kSums},
    {"select", "heads_8_20000_bf16", 1.29, kSums},
    {"select", "heads_3_131072", 1.35, kSums},
    {"select", "long_heads*", 1.53, kSums},
    {"select", "long_*", 1.20, kTeams},
    {"select", "wide_131072_k_2048", 1.04, kTeams},
    {"select", "wide_16384_k_9000", 1.13, kTeams},
    {"select", "wide_16385_k_9000", 1.11, kTeams},
    {"select", "wide_20000_k_64", 1.16, kTeams},
    {"select", "ones_16384_k_9001", 1.09, kTeams},
    {"select", "bench_2048_of_131072", 1.04, kTeams},
    {"verify", "*", 4.20, kWholeDrafts},
};

// The same for what threads ask for, which L1 or L2 answer.
constexpr const char* kBlocks =
    "each block of 128 outputs needs all of x: R * 4 / (128 * sizeof(weight)) of the weights' "
    "bytes; with larger ones a vocabulary of less than 27k has none for some SMs; "
    "labels, and a label's logit and a draw for each tile";
constexpr const char* kParts =
    "B blocks of n outputs by k columns ask for 4 * R * V * D * (1 / n + 2 / k) of x and of sums "
    "that are written and read, so for at least 8 * R * sqrt(2 * V * D * B); one block for each "
    "second SM or so";
constexpr const char* kAdapter =
    "as without an adapter; each component of one needs all of x, each row of x all of adapter_down";
constexpr const char* kBlockRows =
    "each block of 64 outputs needs all of x, R / 16 bytes beside each weight of half a byte or so; "
    "a row's share of a stage comes in aligned pieces of 16 bytes";
constexpr const char* kScreenRows =
    "each block of 64 rows of the vocabulary needs all of y, R / 16 bytes beside each weight of five "
    "bits, and has its rows' parts in aligned pieces of 16 bytes; each warp that makes an element of "
    "y needs all of x and m: 4 * D * D * (R + 1); logits and bounds are read again";
constexpr const char* kLayerBlocks =
    "each block of 128 outputs and a split of the depth reads its rows for their moments, and those of "
    "all splits read them once more to multiply them: (P + 1) * R * 2 / (128 * sizeof(weight)) of the "
    "weights' bytes where both are 16 bits wide, and its layer's coefficients once: 4 / (128 * "
    "sizeof(weight)); P * R * 8 / (D * sizeof(weight)) of splits that are written and read";
constexpr const char* kLayerBlockRows =
    "each block of 64 outputs and a split of the depth reads its rows for their moments, and those of "
    "all splits read them once more to multiply them, and its layer's coefficients once: ((P + 1) * R "
    "* sizeof(hidden) + 4) / 64 bytes beside each weight of half a byte or so; a row's share of a "
    "stage comes in aligned pieces of 16 bytes";
constexpr const char* kSkipped =
    "all rows are skipped: each thread of the products and of what follows reads how many run, 4 "
    "bytes, one answer for a warp, and leaves";
constexpr const char* kRepeated =
    "a hidden layer that is applied three times: each time needs all outputs of the time before, "
    "which many blocks make, so that it takes a launch; and no SM holds the D * D weights";
constexpr const char* kLongRow =
    "more columns than a block holds: the states of several must meet before one writes, which "
    "takes a second launch, and that reads the logits again, from L2";
constexpr const char* kWeight =
    "4 rows of a block share the weight, as many bytes as a row in and out; the same from a block "
    "on each of 108 SMs is 1 + 108 / 512 = 1.21";
constexpr const char* kWeightAndBias =
    "2 rows of a block share weight and bias, twice as many bytes as a row in and out; the same "
    "from a block on each of 108 SMs is 1 + 2 * 108 / 256 = 1.84";
constexpr const char* kKeyParts =
    "each part of the keys reads the queries and leaves 4 * dim + 8 for each, read again";
constexpr const char* kScores = "products and states through the workspace, queries for each tile";
constexpr const char* kTeamSums = "sums through the workspace, which blocks share";
constexpr const char* kPartitions = "the partitions' scores and shares pass the workspace";
constexpr const char* kEntries = "a thread reads the ids or entries of each piece that it moves";
constexpr const char* kLength = "each of the 1024 threads of a text reads its length";
constexpr const char* kStopIds =
    "each row looks through all stop ids, and its state is read again once those of all rows are known";
constexpr const char* kNarrowWords = "nothing is aligned: an entry of the list for each word";
constexpr const char* kTables =
    "an entry of the list for each piece or word, and a page's entry in the tables";
constexpr const char* kRounds = "weights are read for each of three digits, and once more to mark";
constexpr const char* kRoundsOfTies = "as above, and equal scores at the cut are numbered";
constexpr const char* kRoundsOfNorms = "as above, and with each row of weights the norms";
constexpr const char* kSomeKept = "vectors with an element that is pruned are read and written";
constexpr KnownWaste kKnownRequests[] = {
    {"token_bias", "ids_2500", 2.20, kScattered},
    {"token_bias", "bench_256x4096", 1.19, kScattered},
    {"token_bias", "bench_64x49152_1000", 1.70, kScattered},
    {"elr", "classes_4097", 2.26, kPasses},
    {"elr", "classes_9000", 2.26, kPasses},
    {"elr", "classes_50257*", 2.26, kPasses},
    {"elr", "bench_128x10", 1.20, kFewClasses},
    {"elr", "bench_128x100", 1.03, kFewClasses},
    {"elr", "bench_1000x100", 1.03, kFewClasses},
    {"ssm_step", "bench_1_*", 1.71, kChannels},
    {"ssm_step", "bench_8_1536_bf16", 2.07, kChannels},
    {"ssm_step", "bench_conv_8_5120", 1.44, kChannels},
    {"column_norms", "*", 1.06, kColumnParts},
    {"prune_mask", "bench_wanda_bf16", 8.50, kRoundsOfNorms},
    {"prune_mask", "threads_old_norm", 7.52, kRoundsOfNorms},
    {"prune_mask", "threads_ties_*", 5.26, kRoundsOfTies},
    {"prune_mask", "threads_two_values*", 5.26, kRoundsOfTies},
    {"prune_mask", "threads_f32_row", 3.47, kRounds},
    {"prune_mask", "threads_bf16_row", 3.06, kRounds},
    {"prune_mask", "threads_*", 4.79, kRoundsOfTies},
    {"prune_mask", "bench_tensor_f32", 4.12, kRoundsOfTies},
    {"prune_mask", "bench_row_f32", 3.47, kRounds},
    {"prune_apply", "bench_adamw", 1.08, kSomeKept},
    {"exit_head", "shared_8x576x384_bf16", 1.22, kBlocks},
    {"exit_head", "shared_64x576x384_bf16", 2.48, kBlocks},
    {"exit_head", "shared_65x576x384_bf16", 2.26, kBlocks},
    {"exit_head", "bench_1x576x49152_q4_1", 1.18, kBlockRows},
    {"exit_head", "bench_1x576x49152_bf16_screen", 1.41, kScreenRows},
    {"exit_head", "bench_8x576x49152_bf16_screen", 3.32, kScreenRows},
    {"stablemax", "gpt2_f32", 1.51, kLongRow},
    {"stablemax", "gpt2_softmax_log", 1.51, kLongRow},
    {"stablemax", "llama3_bf16", 1.51, kLongRow},
    {"stablemax", "llama3_f64", 1.51, kLongRow},
    {"stablemax", "llama3_softmax", 1.51, kLongRow},
    {"stablemax", "bench_1x49152_stablemax", 1.51, kLongRow},
    {"stablemax", "bench_1x49152_softmax", 1.51, kLongRow},
    {"stablemax", "bench_1x49152_softmax_bf16", 1.51, kLongRow},
    {"cross_entropy", "gpt2_f32", 1.51, kLongRow},
    {"cross_entropy", "llama3_bf16", 1.51, kLongRow},
    {"cross_entropy", "llama3_softmax_last", 1.51, kLongRow},
    {"cross_entropy", "bench_8x49152_stablemax", 1.51, kLongRow},
    {"cross_entropy", "bench_8x49152_bf16", 1.51, kLongRow},
    {"gate", "bench_1x576_residual_3", 3.16, kRepeated},
    {"gate", "bench_1x576_residual_3_q4_1", 3.80, kRepeated},
    {"norm", "model_512x576", 1.25, kWeight},
    {"norm", "model_256x4096_layer", 1.99, kWeightAndBias},
    {"linear", "model_576x1536_r1", 1.05, kParts},   // at least 1.04, with B = 48
    {"linear", "model_576x1536_r8", 1.36, kParts},   // at least 1.33
    {"linear", "model_576x1536_r64", 3.90, kParts},  // at least 3.31
    {"linear", "model_576x576_r1", 1.06, kParts},    // at least 1.04, with B = 20
    {"linear", "model_1536x576_r1", 1.06, kParts},   // at least 1.05, with B = 60
    {"linear", "model_4096x1024_r1_adapter", 1.06, kAdapter},
    {"linear", "model_4096x1024_r1*", 1.05, kParts},
    {"linear", "model_4096x1024_r8", 1.30, kParts},
    {"linear", "model_4096x1024_r8_adapter", 1.55, kAdapter},
    {"linear", "q4_1_576x1536_r1", 1.23, kBlockRows},
    {"linear", "q4_k_2048x2048_r1", 1.17, kBlockRows},
    {"linear", "q4_k_2048x2048_r8", 2.20, kBlockRows},
    {"linear", "q6_k_768x32768_r1", 1.15, kBlockRows},
    {"linear", "q8_0_2048x2048_r1", 1.10, kBlockRows},
    {"ffn", "model_576x1536_r1", 1.08, kParts},
    {"ffn", "model_576x1536_r8", 1.46, kParts},
    {"ffn", "model_576x1536_r8_alternate", 1.31, kParts},
    {"ffn", "model_576x1536_r8_all", 8.40, kSkipped},
    {"ffn", "model_768x3072_r1_gelu", 1.05, kParts},
    {"ffn", "model_576x1536_r1_q4_1", 1.28, kBlockRows},
    {"ffn", "model_576x1536_r8_q4_1", 2.46, kBlockRows},
    {"kv_propagate", "model_576_r1", 1.09, kLayerBlocks},
    {"kv_propagate", "model_576_r8", 1.47, kLayerBlocks},
    {"kv_propagate", "model_4096_r1_layer", 1.16, kLayerBlocks},
    {"kv_propagate", "model_576_r1_q4_1", 1.54, kLayerBlockRows},
    {"kv_append", "bench_decode", 1.13, kEntries},
    {"kv_append", "bench_decode_paged", 1.19, kEntries},
    {"kv_append", "bench_prefill", 1.07, kEntries},
    {"kv_append", "bench_prefill_convert", 1.05, kEntries},
    {"kv_copy", "bench_layer_copy", 1.13, kEntries},
    {"attention", "bench_decode_group_1_head", 1.03, kKeyParts},
    {"attention", "bench_decode_group_4_head", 1.09, kKeyParts},
    {"attention", "bench_decode_group_4_token", 1.09, kKeyParts},
    {"attention", "bench_decode_group_4_paged", 1.10, kKeyParts},
    {"attention", "bench_decode_scores", 1.09, kKeyParts},
    {"hidden_stack", "bench_push", 1.11, kEntries},
    {"hidden_stack", "bench_gather", 1.05, kEntries},
    {"row_compaction", "bench_gather", 1.07, kEntries},
    {"row_compaction", "bench_scatter", 1.07, kEntries},
    {"row_compaction", "bench_gather_all", 1.04, kEntries},
    {"row_compaction", "bench_scatter_all", 1.04, kEntries},
    {"embedding", "dim_2100*", 1.10, kEntries},
    {"embedding", "pieces*", 1.22, kEntries},
    {"embedding", "bench_512*", 1.39, kEntries},
    {"attention_scores", "bench_score_8", 1.08, kScores},
    {"attention_scores", "bench_score_32", 1.29, kScores},
    {"attention_scores", "bench_score_32_raw", 1.07, kScores},
    {"attention_scores", "bench_score_32_token", 1.29, kScores},
    {"attention_scores", "bench_score_32_paged", 1.31, kScores},
    {"attention_scores", "bench_distill_32", 1.07, kScores},
    {"attention_scores", "bench_hired_5", 1.14, kScores},
    {"attention_scores", "bench_fastv_2880", 1.08, kScores},
    {"select", "wide_16384_k_9000", 1.23, kTeams},
    {"select", "wide_16385_k_9000", 1.18, kTeams},
    {"select", "wide_20000_k_64", 1.31, kTeams},
    {"select", "wide_131072_k_2048", 1.28, kTeams},
    {"select", "ones_16384_k_9001", 1.27, kTeams},
    {"select", "heads_8193", 2.00, kSums},
    {"select", "heads_9000_limit", 2.02, kSums},
    {"select", "heads_9000_nan_last", 2.01, kSums},
    {"select", "heads_4_8193_rows_3", 1.45, kSums},
    {"select", "heads_8_20000_bf16", 1.86, kTeamSums},
    {"select", "heads_3_131072", 1.76, kTeamSums},
    {"select", "bench_2048_of_131072", 1.27, kTeams},
    {"select", "long_segments*", 1.61, kTeams},
    {"select", "long_heads*", 2.17, kTeamSums},
    {"select", "long_*", 1.56, kTeams},
    {"hired_budget", "8192_tokens", 1.03, kPartitions},
    {"stop_rule", "bench_64", 1.79, kStopIds},
    {"draft_lookup", "bench_8x1024", 2.04, kLength},
    {"draft_lookup", "*", 1.13, kLength},
    {"gather", "threads_odd_rows_in_place", 3.01, kNarrowWords},
    {"gather", "long_entries", 1.13, kEntries},
    {"gather", "long_entries_in_place", 1.13, kEntries},
    {"gather", "streamed", 3.00, kNarrowWords},
    {"gather", "streamed_in_place", 3.00, kNarrowWords},
    {"gather", "streamed_wide", 1.25, kEntries},
    {"gather", "streamed_wide_holes", 1.36, kEntries},
    {"gather", "streamed_wide_skewed", 2.14, kNarrowWords},
    {"gather", "streamed_wide_in_place", 1.13, kEntries},
    {"kv_compact", "f32_2_by_128_paged", 1.40, kTables},
    {"kv_compact", "threads", 1.24, kEntries},
    {"kv_compact", "threads_head_in_place", 1.33, kEntries},
    {"kv_compact", "threads_token_in_place", 1.33, kEntries},
    {"kv_compact", "threads_paged_in_place", 1.63, kTables},
    {"kv_compact", "threads_one_head_in_place", 1.15, kEntries},
    {"kv_compact", "streamed_head", 1.51, kNarrowWords},
    {"kv_compact", "streamed_head_in_place", 1.57, kNarrowWords},
    {"kv_compact", "streamed_token", 1.51, kNarrowWords},
    {"kv_compact", "streamed_token_in_place", 1.56, kNarrowWords},
    {"kv_compact", "streamed_paged", 2.01, kTables},
    {"kv_compact", "streamed_paged_in_place", 2.58, kTables},
    {"verify", "*", 4.80, kWholeDrafts},
};

// An id that ends with a star is that of all cases which begin so.
bool is_named(const std::string& id, const std::string& name) {
  return name.back() == '*' ? id.rfind(name.substr(0, name.size() - 1), 0) == 0 : id == name;
}

// The first entry for the case, or null.
template <size_t N>
const KnownWaste* find_known(const KnownWaste (&table)[N], const Case& c) {
  for (const KnownWaste& known : table) {
    if (c.op == known.op && is_named(c.base.id, known.id)) return &known;
  }
  return nullptr;
}

double most(const KnownWaste* known) { return known != nullptr ? known->most : kMostWaste; }

int64_t extent(const Case& c, const char* name) {
  const auto found = c.description.find(name);
  return found == c.description.end() ? 0 : std::atoll(found->second.c_str());
}

}  // namespace

bool TrafficResult::is_wasteful() const {
  return ratio(past_cache) > most(find_known(kKnownWaste, measured)) ||
         ratio(requested) > most(find_known(kKnownRequests, measured));
}

bool is_realistic(const Case& c) {
  if (c.base.bench) return c.compulsory_bytes >= kEnoughBytes;
  // Of a head or a gate, the width decides: what is read besides is per row of the weights. Few of
  // those are enough where many rows of the batch would each read them.
  const bool has_width = extent(c, "dim") > 0;
  const int64_t enough_vocabulary = extent(c, "rows") >= 8 ? 384 : 4096;
  const bool is_model_sized =
      has_width ? extent(c, "dim") >= 576 && extent(c, "vocab") >= enough_vocabulary
                : std::max(extent(c, "cols"), extent(c, "elements")) >= 576;
  return is_model_sized && c.compulsory_bytes >= kEnoughBytesUnlessTimed;
}

TrafficResult measure_traffic(const Case& c) {
  TrafficResult result;
  result.measured = c;
  const std::unique_ptr<Instance> instance = c.instantiate(kDLCUDA);
  instance->prepare();
  const Stream stream(kDLCUDA);
  for (size_t call = 0; call < instance->calls().size(); ++call) {
    traffic_counters().reset();
    instance->run_call(call, stream.get());
    stream.synchronize();
    result.requested += static_cast<double>(traffic_counters().requested());
    result.first_touched += static_cast<double>(traffic_counters().first_touched());
    result.past_cache += static_cast<double>(traffic_counters().past_cache());
  }
  return result;
}

void print_traffic(const std::vector<TrafficResult>& results) {
  std::printf(
      "Bytes of device memory, divided by the compulsory ones of the header. Each call starts\n"
      "with an empty cache.\n"
      "  memory      what an L2 cache of the emulated size lets through, both ways; at most %.2f\n"
      "  per launch  the same if every launch started with an empty cache: more than `memory`\n"
      "              where a kernel reads what the one before left in L2 (workspace, second\n"
      "              readings)\n"
      "  requested   by the threads, each for itself: more than `per launch` where L1 or L2\n"
      "              answer re-reads, or one answer serves a warp (an entry of a list);\n"
      "              at most %.2f where no other limit and its reason follow\n"
      "Less than 1: the header counts a second reading that the L2 cache answers.\n\n"
      "%-14s %-34s %12s %8s %10s %9s\n",
      kMostWaste, kMostWaste, "op", "case", "compulsory", "memory", "per launch", "requested");
  for (const TrafficResult& r : results) {
    std::printf("%-14s %-34s %12.0f %8.3f %10.3f %9.3f%s\n", r.measured.op.c_str(),
                r.measured.base.id.c_str(), r.measured.compulsory_bytes, r.ratio(r.past_cache),
                r.ratio(r.first_touched), r.ratio(r.requested),
                r.is_wasteful() ? "  <- too much" : "");
    const KnownWaste* known = find_known(kKnownWaste, r.measured);
    if (known != nullptr) std::printf("  (memory up to %.2f: %s)\n", known->most, known->why);
    known = find_known(kKnownRequests, r.measured);
    if (known != nullptr) std::printf("  (requested up to %.2f: %s)\n", known->most, known->why);
  }
}

}  // namespace exn::gpu
