// SPDX-License-Identifier: Apache-2.0
//
// A whole decode step of a batch in which some tokens leave early and some blocks are skipped:
// head, rule, propagation and layers, with every decision taken and used on the device. As one
// case, so that it is run at once, captured and replayed; a host read between the ops would break
// the capture.
//
// It is judged by the same step, taken one token after the other with the decisions on the host.
#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "judge.h"

namespace exn::test {
inline namespace decode_step_op {

namespace {

constexpr int64_t kTokens = 5;  // tokens, each of a sequence of its own
constexpr int64_t kDim = 32, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kInner = 48, kVocabulary = 40;
constexpr int64_t kWidth = (kHeads + 2 * kKvHeads) * kHeadDim;
constexpr int32_t kLayers = 4;
constexpr int64_t kSlots = 6;
constexpr float kEps = 1e-5f;
constexpr float kSure = 0.5f;      // a token leaves from here on
constexpr float kSettled = 0.93f;  // a block is passed from here on

// A decision this close to its threshold would leave the outcome to rounding.
constexpr double kBand = 1e-3;
// Of values that went through some layers in f32, next to 1.
constexpr double kTolerance = 2e-4;

HostTensor mask(std::vector<int64_t> shape, unsigned char value) {
  HostTensor t = make_tensor(Type::kU8, std::move(shape));
  std::fill(t.bytes.begin(), t.bytes.end(), value);
  return t;
}

HostTensor row_of(const HostTensor& t, int64_t row) {
  HostTensor one = make_tensor(t.type, {1, t.cols});
  for (int64_t col = 0; col < t.cols; ++col) one.set(0, col, t.at(row, col));
  return one;
}

// ---- the model and where it stands --------------------------------------------------------------

struct LayerWeights {
  HostTensor attention_norm, projections, output, ffn_norm, gate, up, down;
};

struct Model {
  std::array<LayerWeights, kLayers> layers;
  HostTensor norm, head, table;
};

struct State {
  HostTensor hidden;  // after layer 0
  std::array<HostTensor, kLayers> k, v, length;
  HostTensor position;
};

HostTensor coefficients(uint64_t seed) { return make_bell(Type::kF32, {kDim}, seed, 0, 0.1f, 1); }

HostTensor weights(int64_t rows, int64_t cols, uint64_t seed, float gain) {
  const float scale = gain / std::sqrt(static_cast<float>(cols));
  return make_bell(Type::kF32, {rows, cols}, seed, 0, scale);
}

Model make_model() {
  Model m;
  for (uint64_t l = 0; l < kLayers; ++l) {
    const uint64_t seed = 100 * (l + 1);
    m.layers[l] = {coefficients(seed),
                   weights(kWidth, kDim, seed + 1, 1),
                   weights(kDim, kHeads * kHeadDim, seed + 2, 0.5f),
                   coefficients(seed + 3),
                   weights(kInner, kDim, seed + 4, 1),
                   weights(kInner, kDim, seed + 5, 1),
                   weights(kDim, kInner, seed + 6, 0.8f)};
  }
  m.norm = coefficients(7);
  m.head = weights(kVocabulary, kDim, 8, 2);
  m.table = make_tensor(Type::kF32, {kSlots, kHeadDim / 2, 2});
  for (int64_t t = 0; t < kSlots; ++t) {
    for (int64_t i = 0; i < kHeadDim / 2; ++i) {
      const double angle =
          static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(i) / kHeadDim);
      m.table.set(0, t * kHeadDim + 2 * i, std::cos(angle));
      m.table.set(0, t * kHeadDim + 2 * i + 1, std::sin(angle));
    }
  }
  return m;
}

State make_state() {
  State s;
  s.hidden = make_bell(Type::kF32, {kTokens, kDim}, 31, 0, 1);
  std::vector<int64_t> length;
  for (int64_t r = 0; r < kTokens; ++r) length.push_back(1 + r % 4);
  for (uint64_t l = 0; l < kLayers; ++l) {
    s.k[l] = make_bell(Type::kF32, {kTokens, kKvHeads, kSlots, kHeadDim}, 40 + l, 0, 1);
    s.v[l] = make_bell(Type::kF32, {kTokens, kKvHeads, kSlots, kHeadDim}, 50 + l, 0, 1);
    s.length[l] = make_integers(length);
  }
  s.position = make_integers(length);
  return s;
}

// ---- the ops, the same for one token and for all ------------------------------------------------

// Tensors of a step that the calls of an instance point to: they must outlive it.
struct Borrowed {
  std::deque<std::vector<int64_t>> numbers;
  std::deque<DLTensor> views;
  std::deque<std::vector<exn_kv_layer>> layers;

  const DLTensor* view(const DLTensor* of, std::vector<int64_t> shape, std::vector<int64_t> strides,
                       int64_t first = 0) {
    DLTensor& t = views.emplace_back(*of);
    t.ndim = static_cast<int32_t>(shape.size());
    t.shape = numbers.emplace_back(std::move(shape)).data();
    t.strides = numbers.emplace_back(std::move(strides)).data();
    t.byte_offset += static_cast<uint64_t>(first * (of->dtype.bits / 8));
    return &t;
  }
};

class Step {
 public:
  Step(Instance* instance, Borrowed* borrowed, const Model& model, const State& state, int64_t rows,
       int64_t first_sequence)
      : instance_(instance), borrowed_(borrowed), rows_(rows) {
    std::vector<int64_t> sequences;
    for (int64_t r = 0; r < rows; ++r) sequences.push_back(first_sequence + r);
    sequence_ = instance->input(make_integers(sequences));
    hidden_ = instance->in_out("hidden", state.hidden);
    position_ = instance->input(state.position);
    table_ = instance->input(model.table);
    norm_ = instance->input(model.norm);
    head_ = instance->input(model.head);
    for (size_t l = 0; l < kLayers; ++l) {
      const std::string layer = "layer " + std::to_string(l) + " ";
      const LayerWeights& w = model.layers[l];
      weights_[l] = {instance->input(w.attention_norm),
                     instance->input(w.projections),
                     instance->input(w.output),
                     instance->input(w.ffn_norm),
                     instance->input(w.gate),
                     instance->input(w.up),
                     instance->input(w.down)};
      cache_[l] = {instance->in_out(layer + "k", state.k[l]),
                   instance->in_out(layer + "v", state.v[l]), nullptr, EXN_KV_HEAD_MAJOR, 0};
      length_[l] = instance->in_out(layer + "length", state.length[l]);
    }
  }

  // The token each row would give now, and how sure it is.
  void read_head(const DLTensor* argmax, const DLTensor* sure) {
    exn_exit_head_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden_;
    p.weight = head_;
    p.norm_weight = norm_;
    p.norm = EXN_NORM_RMS;
    p.norm_eps = kEps;
    p.temperature = 1;
    p.out.argmax = argmax;
    p.out.p1 = sure;
    instance_->call(EXN_TEST_OP(exit_head), p);
  }

  // Rows that leave (all of them without a mask) get keys and values in the layers they skip.
  void propagate(const DLTensor* exit_layer, const DLTensor* leaves, int32_t from) {
    const DLTensor* slots = instance_->output("slots owed", Type::kI32, {kLayers - from, rows_});
    auto& layers = borrowed_->layers.emplace_back();
    for (int32_t l = from; l < kLayers; ++l) {
      const auto at = static_cast<size_t>(l);
      advance(at, leaves, borrowed_->view(slots, {rows_}, {1}, (l - from) * rows_), nullptr);
      exn_kv_layer layer = {};
      layer.norm_weight = weights_[at].attention_norm;
      layer.k_weight = projection(at, kHeads, kKvHeads);
      layer.v_weight = projection(at, kHeads + kKvHeads, kKvHeads);
      layer.cache = cache_[at];
      layer.index = l;
      layers.push_back(layer);
    }
    exn_kv_propagate_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden_;
    p.exit_layer = exit_layer;
    p.sequence = sequence_;
    p.slot = slots;
    p.position = position_;
    p.rope_table = table_;
    p.layers = layers.data();
    p.layer_count = kLayers - from;
    p.model_layers = kLayers;
    p.rope_style = EXN_ROPE_HALF;
    p.norm = EXN_NORM_RMS;
    p.norm_eps = kEps;
    instance_->call(EXN_TEST_OP(kv_propagate), p);
  }

  // Layer `l` for the rows in `active` (all of them without), its block for those not in `skip`.
  void run_layer(int32_t l, const DLTensor* active, const DLTensor* skip, const DLTensor* cosine) {
    const auto at = static_cast<size_t>(l);
    const DLTensor* slot = instance_->output("slot", Type::kI32, {rows_});
    const DLTensor* visible = instance_->output("visible", Type::kI32, {rows_});
    const DLTensor* normed = instance_->output("normed", Type::kF32, {rows_, kDim});
    const DLTensor* projected = instance_->output("projected", Type::kF32, {rows_, kWidth});
    const DLTensor* attended =
        instance_->output("attended", Type::kF32, {rows_, kHeads * kHeadDim});
    advance(at, active, slot, visible);
    exn_norm_params norm = {sizeof norm,  hidden_, weights_[at].attention_norm, nullptr, normed,
                            EXN_NORM_RMS, kEps};
    instance_->call(EXN_TEST_OP(norm), norm);
    linear(normed, weights_[at].projections, nullptr, projected);
    const DLTensor* rotated = heads(projected, 0, kHeads + kKvHeads);
    exn_rope_params rope = {sizeof rope, rotated, position_, table_, rotated, EXN_ROPE_HALF, 0};
    instance_->call(EXN_TEST_OP(rope), rope);
    exn_kv_append_params append = {sizeof append,
                                   cache_[at],
                                   heads(projected, kHeads, kKvHeads),
                                   heads(projected, kHeads + kKvHeads, kKvHeads),
                                   sequence_,
                                   slot};
    instance_->call(EXN_TEST_OP(kv_append), append);
    exn_attention_params attention = {};
    attention.struct_size = sizeof attention;
    attention.query = heads(projected, 0, kHeads);
    attention.cache = cache_[at];
    attention.sequence = sequence_;
    attention.visible = visible;
    attention.out =
        borrowed_->view(attended, {rows_, kHeads, kHeadDim}, {kHeads * kHeadDim, kHeadDim, 1});
    attention.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
    instance_->call(EXN_TEST_OP(attention), attention);
    linear(attended, weights_[at].output, hidden_, hidden_);
    exn_ffn_params ffn = {};
    ffn.struct_size = sizeof ffn;
    ffn.hidden = hidden_;
    ffn.norm_weight = weights_[at].ffn_norm;
    ffn.gate_weight = weights_[at].gate;
    ffn.up_weight = weights_[at].up;
    ffn.down_weight = weights_[at].down;
    ffn.skip = skip;
    ffn.out = hidden_;
    ffn.cosine = cosine;
    ffn.norm = EXN_NORM_RMS;
    ffn.norm_eps = kEps;
    ffn.activation = EXN_ACT_SILU;
    instance_->call(EXN_TEST_OP(ffn), ffn);
  }

 private:
  struct Weights {
    const DLTensor *attention_norm, *projections, *output, *ffn_norm, *gate, *up, *down;
  };

  const DLTensor* heads(const DLTensor* projected, int64_t first, int64_t number) {
    return borrowed_->view(projected, {rows_, number, kHeadDim}, {kWidth, kHeadDim, 1},
                           first * kHeadDim);
  }

  const DLTensor* projection(size_t layer, int64_t first, int64_t number) {
    return borrowed_->view(weights_[layer].projections, {number * kHeadDim, kDim}, {kDim, 1},
                           first * kHeadDim * kDim);
  }

  void advance(size_t layer, const DLTensor* active, const DLTensor* slot,
               const DLTensor* visible) {
    exn_kv_length_params p = {};
    p.struct_size = sizeof p;
    p.length = length_[layer];
    p.sequence = sequence_;
    p.active = active;
    p.slot = slot;
    p.visible = visible;
    p.capacity = kSlots;
    p.action = EXN_KV_ADVANCE;
    instance_->call(EXN_TEST_OP(kv_length), p);
  }

  void linear(const DLTensor* input, const DLTensor* weight, const DLTensor* residual,
              const DLTensor* out) {
    exn_linear_params p = {};
    p.struct_size = sizeof p;
    p.input = input;
    p.weight = weight;
    p.residual = residual;
    p.out = out;
    instance_->call(EXN_TEST_OP(linear), p);
  }

  Instance* instance_;
  Borrowed* borrowed_;
  int64_t rows_;
  const DLTensor *sequence_, *hidden_, *position_, *table_, *norm_, *head_;
  std::array<Weights, kLayers> weights_;
  std::array<exn_kv_cache, kLayers> cache_;
  std::array<const DLTensor*, kLayers> length_;
};

// ---- all tokens at once, decided on the device --------------------------------------------------

// Reads the head after `layer` layers and lets the rule decide; gives the mask of rows that leave.
const DLTensor* ask(Instance* instance, Step* step, const DLTensor* state, const DLTensor* stay,
                    const DLTensor* exit_layer, int32_t layer) {
  const std::string where = " after " + std::to_string(layer);
  const DLTensor* argmax = instance->output("argmax" + where, Type::kI32, {kTokens});
  const DLTensor* sure = instance->output("p1" + where, Type::kF32, {kTokens});
  step->read_head(argmax, sure);
  exn_exit_rule_params p = {};
  p.struct_size = sizeof p;
  p.score = sure;
  p.state = state;
  p.exit_mask = instance->output("leaves" + where, Type::kU8, {kTokens});
  p.active_list = stay;
  p.exit_layer = exit_layer;
  p.rule = EXN_RULE_THRESHOLD;
  p.threshold = kSure;
  p.layer = layer;
  p.first = layer == 1;
  p.force = layer == kLayers;
  instance->call(EXN_TEST_OP(exit_rule), p);
  return p.exit_mask;
}

// active = 1 for the rows of the list: zeros everywhere, then ones where it says.
void mark(Instance* instance, const DLTensor* list, const DLTensor* active) {
  std::vector<int64_t> every;
  for (int64_t r = 0; r < kTokens; ++r) every.push_back(r);
  const auto move = [&](unsigned char value, const DLTensor* where, int32_t direction) {
    exn_row_compaction_params p = {};
    p.struct_size = sizeof p;
    p.input = instance->input(mask({kTokens, 1}, value));
    p.list = where;
    p.out = active;
    p.direction = direction;
    instance->call(EXN_TEST_OP(row_compaction), p);
  };
  move(0, instance->input(make_integers(every)), EXN_ROWS_GATHER);
  move(1, list, EXN_ROWS_SCATTER);
}

// The mask of the block of `layer`, from the cosines of the one before.
const DLTensor* decide_skips(Instance* instance, const DLTensor* state, const DLTensor* cosine,
                             int32_t layer) {
  exn_ffn_skip_rule_params p = {};
  p.struct_size = sizeof p;
  p.cosine = layer == 1 ? nullptr : cosine;
  p.state = state;
  p.skip = instance->output("skip", Type::kU8, {kTokens});
  p.layer = layer == 1 ? -1 : layer - 1;  // the step begins after layer 0
  p.model_layers = kLayers;
  p.cold_end = kLayers;
  p.budget = -1;
  p.threshold = kSettled;
  instance->call(EXN_TEST_OP(ffn_skip_rule), p);
  return p.skip;
}

std::unique_ptr<Instance> instantiate(int32_t device_type, Borrowed* borrowed) {
  auto instance = std::make_unique<Instance>(device_type);
  Step step(instance.get(), borrowed, make_model(), make_state(), kTokens, 0);
  const DLTensor* exit_layer =
      instance->in_out("exit layer", make_integers(std::vector<int64_t>(kTokens, 99)));
  const DLTensor* exit_state =
      instance->in_out("exit state", make_tensor(Type::kI32, {kTokens, EXN_EXIT_STATE_WORDS}));
  const DLTensor* skip_state =
      instance->in_out("skip state", make_tensor(Type::kI32, {kTokens, EXN_FFN_SKIP_STATE_WORDS}));
  const DLTensor* stay = instance->output("stay", Type::kI32, {kTokens});
  const DLTensor* active = instance->output("active", Type::kU8, {kTokens});
  const DLTensor* active_column = borrowed->view(active, {kTokens, 1}, {1, 1});
  const DLTensor* cosine = instance->output("cosine", Type::kF32, {kTokens});
  for (int32_t layer = 1; layer < kLayers; ++layer) {
    const DLTensor* leaves = ask(instance.get(), &step, exit_state, stay, exit_layer, layer);
    step.propagate(exit_layer, leaves, layer);
    mark(instance.get(), stay, active_column);
    const DLTensor* skip = decide_skips(instance.get(), skip_state, cosine, layer);
    step.run_layer(layer, active, skip, cosine);
  }
  ask(instance.get(), &step, exit_state, stay, exit_layer, kLayers);
  return instance;
}

// ---- one token after the other, decided on the host ---------------------------------------------

struct Outcome {
  int64_t exit_layer = 0;
  int64_t argmax = 0;
  double sure = 0;
  int64_t skipped = 0;
  HostTensor hidden;
};

struct Reference {
  std::vector<Outcome> rows;
  State state;  // caches and lengths after the step
};

const HostTensor& named(const Instance& instance, const Outputs& outputs, const std::string& name) {
  const std::vector<std::string>& names = instance.output_names();
  const auto found = std::find(names.begin(), names.end(), name);
  return outputs[static_cast<size_t>(found - names.begin())];
}

// A decision on the host, which must not be left to rounding.
bool reaches(double value, double threshold) {
  if (!(std::abs(value - threshold) > kBand)) {
    throw std::runtime_error("decode_step: a decision at " + std::to_string(value) +
                             " is too close to its threshold: choose another seed");
  }
  return value >= threshold;
}

// The newest token of one sequence on its way.
class Token {
 public:
  Token(const Model& model, State* all, int64_t row) : model_(model), all_(all), row_(row) {
    state_ = *all;
    state_.hidden = row_of(all->hidden, row);
    state_.position = make_integers({all->position.integer_at(row)});
  }

  Outcome run() {
    bool skips = false;
    for (int32_t layer = 1;; ++layer) {
      look();
      if (layer == kLayers || reaches(outcome_.sure, kSure)) {
        outcome_.exit_layer = layer;
        if (layer < kLayers) leave(layer);
        break;
      }
      const double cosine = pass(layer, skips);
      outcome_.skipped += skips;
      skips = skips || reaches(cosine, kSettled);
    }
    outcome_.hidden = state_.hidden;
    all_->k = state_.k;
    all_->v = state_.v;
    all_->length = state_.length;
    return outcome_;
  }

 private:
  template <class Queue>
  void with_step(Queue queue) {
    Borrowed borrowed;
    Instance instance(kDLCPU);
    Step step(&instance, &borrowed, model_, state_, 1, row_);
    queue(&instance, &step);
    instance.prepare();
    instance.run(nullptr);
    outputs_ = instance.outputs();
    state_.hidden = named(instance, outputs_, "hidden");
    for (size_t l = 0; l < kLayers; ++l) {
      const std::string layer = "layer " + std::to_string(l) + " ";
      state_.k[l] = named(instance, outputs_, layer + "k");
      state_.v[l] = named(instance, outputs_, layer + "v");
      state_.length[l] = named(instance, outputs_, layer + "length");
    }
  }

  void look() {
    with_step([](Instance* instance, Step* step) {
      const DLTensor* argmax = instance->output("argmax", Type::kI32, {1});
      step->read_head(argmax, instance->output("p1", Type::kF32, {1}));
    });
    outcome_.argmax = outputs_[outputs_.size() - 2].integer_at(0);
    outcome_.sure = outputs_.back().at(0, 0);
  }

  void leave(int32_t layer) {
    with_step([&](Instance* instance, Step* step) {
      step->propagate(instance->input(make_integers({layer})), nullptr, layer);
    });
  }

  double pass(int32_t layer, bool skips) {
    double cosine = 0;
    with_step([&](Instance* instance, Step* step) {
      const DLTensor* skip = instance->input(mask({1}, skips ? 1 : 0));
      step->run_layer(layer, nullptr, skip, instance->output("cosine", Type::kF32, {1}));
    });
    for (const HostTensor& t : outputs_) {
      if (t.type == Type::kF32 && t.size() == 1) cosine = t.at(0, 0);
    }
    return cosine;
  }

  const Model& model_;
  State* all_;
  int64_t row_;
  State state_;
  Outcome outcome_;
  Outputs outputs_;
};

Reference decide_on_the_host() {
  const Model model = make_model();
  Reference reference;
  reference.state = make_state();
  bool leaves = false, stays = false, skips = false;
  for (int64_t r = 0; r < kTokens; ++r) {
    const Outcome outcome = Token(model, &reference.state, r).run();
    leaves = leaves || outcome.exit_layer < kLayers;
    stays = stays || outcome.exit_layer == kLayers;
    skips = skips || outcome.skipped > 0;
    reference.rows.push_back(outcome);
  }
  if (!leaves || !stays || !skips) {
    throw std::runtime_error(
        "decode_step: some token must leave early, one stay, one skip a block");
  }
  return reference;
}

// ---- judging ------------------------------------------------------------------------------------

Complaint near(const std::string& what, double expected, double got) {
  const double bound = kTolerance * std::max(1.0, std::abs(expected));
  return compare(what, "", {expected, bound}, got);
}

Complaint near(const std::string& what, const HostTensor& expected, const HostTensor& got) {
  for (int64_t row = 0; row < expected.rows; ++row) {
    for (int64_t col = 0; col < expected.cols; ++col) {
      const Complaint complaint =
          near(what + place(row, col), expected.at(row, col), got.at(row, col));
      if (!complaint.empty()) return complaint;
    }
  }
  return "";
}

Complaint judge(const Reference& expected, const std::vector<std::string>& names,
                const Outputs& got) {
  const auto output = [&](const std::string& name) -> const HostTensor& {
    return got[static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
  };
  for (int64_t r = 0; r < kTokens; ++r) {
    const Outcome& row = expected.rows[static_cast<size_t>(r)];
    const std::string who = "row " + std::to_string(r) + " ";
    const std::string where = " after " + std::to_string(row.exit_layer);
    const auto integer = [&](const std::string& name, int64_t value) -> Complaint {
      const int64_t found = output(name).integer_at(r);
      return found == value ? ""
                            : who + name + ": got " + std::to_string(found) + ", expected " +
                                  std::to_string(value);
    };
    const Complaint complaint = first_of(
        {integer("exit layer", row.exit_layer), integer("argmax" + where, row.argmax),
         near(who + "p1", row.sure, output("p1" + where).at(0, r)),
         row.exit_layer < kLayers ? ""
                                  : near(who + "hidden", row.hidden, row_of(output("hidden"), r))});
    if (!complaint.empty()) return complaint;
  }
  for (size_t l = 0; l < kLayers; ++l) {
    const std::string layer = "layer " + std::to_string(l) + " ";
    std::vector<int64_t> lengths;
    for (int64_t r = 0; r < kTokens; ++r) {
      lengths.push_back(expected.state.length[l].integer_at(r));
    }
    const Complaint complaint =
        first_of({compare_integers(layer + "length", lengths, output(layer + "length")),
                  near(layer + "k", expected.state.k[l], output(layer + "k")),
                  near(layer + "v", expected.state.v[l], output(layer + "v"))});
    if (!complaint.empty()) return complaint;
  }
  return "";
}

Case make_case() {
  Case c;
  const auto borrowed = std::make_shared<std::deque<Borrowed>>();
  c.instantiate = [borrowed](int32_t device_type) {
    return instantiate(device_type, &borrowed->emplace_back());
  };
  const auto reference = lazily(decide_on_the_host);
  const auto names =
      lazily([borrowed] { return instantiate(kDLCPU, &borrowed->emplace_back())->output_names(); });
  c.judge = [reference, names](const Outputs& got) { return judge(reference(), names(), got); };
  return c;
}

const RegisteredOp kRegistered("decode_step", [] {
  ListedCase listed{"decode_step", {}, make_case, true};
  listed.base.id = "mixed_exits_and_skips";
  listed.base.small = true;
  return std::vector<ListedCase>{listed};
});

}  // namespace

}  // namespace decode_step_op
}  // namespace exn::test
