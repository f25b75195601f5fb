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

// What may waste more than that, and why. It is printed, so that nobody takes it for the rule.
struct KnownWaste {
  const char* op;
  const char* id;
  double most;
  const char* why;
};
constexpr const char* kProducts =
    "a softmax over all columns: products go to the workspace first, 4 * H * N written";
constexpr KnownWaste kKnownWaste[] = {
    {"linear", "model_576x1536_r64", 1.08,
     "the 16-bit input goes to the workspace as f32 first: R * D * 4 written and read"},
    {"attention_scores", "bench_score_32", 1.07, kProducts},
    {"attention_scores", "bench_score_32_token", 1.07, kProducts},
    {"attention_scores", "bench_score_32_paged", 1.07, kProducts},
    {"attention_scores", "bench_hired_5", 1.04, kProducts},
};

const KnownWaste* known_waste(const Case& c) {
  for (const KnownWaste& known : kKnownWaste) {
    if (c.op == known.op && c.base.id == known.id) return &known;
  }
  return nullptr;
}

int64_t extent(const Case& c, const char* name) {
  const auto found = c.description.find(name);
  return found == c.description.end() ? 0 : std::atoll(found->second.c_str());
}

}  // namespace

bool TrafficResult::is_wasteful() const {
  const KnownWaste* known = known_waste(measured);
  return ratio(past_cache) > (known != nullptr ? known->most : kMostWaste);
}

bool is_realistic(const Case& c) {
  if (c.base.bench) return c.compulsory_bytes >= kEnoughBytes;
  // Of a head or a gate, the width decides: what is read besides is per row of the weights.
  const bool has_width = extent(c, "dim") > 0;
  const bool is_model_sized =
      has_width ? extent(c, "dim") >= 576 && extent(c, "vocab") >= 4096
                : std::max(extent(c, "cols"), extent(c, "elements")) >= 576;
  return is_model_sized && c.compulsory_bytes >= kEnoughBytesUnlessTimed;
}

TrafficResult measure_traffic(const Case& c) {
  TrafficResult result;
  result.measured = c;
  const std::unique_ptr<Instance> instance = c.instantiate(kDLCUDA);
  instance->prepare();
  const Stream stream(kDLCUDA);
  for (size_t call = 0; call < instance->calls(); ++call) {
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
      "              answer re-reads, or one answer serves a warp (a row's state, a label)\n"
      "Less than 1: the header counts a second reading that the L2 cache answers.\n\n"
      "%-14s %-34s %12s %8s %10s %9s\n",
      kMostWaste, "op", "case", "compulsory", "memory", "per launch", "requested");
  for (const TrafficResult& r : results) {
    std::printf("%-14s %-34s %12.0f %8.3f %10.3f %9.3f%s\n", r.measured.op.c_str(),
                r.measured.base.id.c_str(), r.measured.compulsory_bytes, r.ratio(r.past_cache),
                r.ratio(r.first_touched), r.ratio(r.requested),
                r.is_wasteful() ? "  <- too much" : "");
    const KnownWaste* known = known_waste(r.measured);
    if (known != nullptr) std::printf("  (up to %.2f: %s)\n", known->most, known->why);
  }
}

}  // namespace exn::gpu
