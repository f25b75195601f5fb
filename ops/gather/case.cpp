// SPDX-License-Identifier: Apache-2.0
#include "gather/case.h"

#include <algorithm>
#include <sstream>

#include "cache.h"
#include "maker.h"
#include "reals.h"
#include "selection.h"

namespace exn::test {
inline namespace gather_op {

namespace {

Type type_in(const std::string& text) {
  for (Type t :
       {Type::kF64, Type::kF32, Type::kF16, Type::kBF16, Type::kI32, Type::kI64, Type::kU8}) {
    if (text == name_of(t)) return t;
  }
  fail("tensors: '" + text + "' is no dtype");
}

GatherTensorSpec tensor_in(const std::string& text, int64_t rows) {
  GatherTensorSpec t;
  const size_t colon = text.find(':');
  if (colon == std::string::npos) fail("tensors: '" + text + "' has no dtype");
  t.type = type_in(text.substr(0, colon));
  t.axis = -1;
  std::stringstream shape(text.substr(colon + 1));
  for (std::string part; std::getline(shape, part, 'x');) {
    if (part == "N") t.axis = static_cast<int32_t>(t.shape.size());
    t.shape.push_back(part == "N" ? rows : number_in("tensors", part));
  }
  if (t.axis < 0) fail("tensors: '" + text + "' has no axis N");
  return t;
}

void read_case(const Row& row, GatherCase* c) {
  c->rows = row.integer("rows");
  c->listed = row.integer("listed");
  c->counted = row.text("count") != "-";
  if (c->counted) c->count = row.integer("count");
  c->list = row.text("list");
  if (c->list.rfind("selected:", 0) == 0) c->heads = number_in("list", c->list.substr(9));
  const int32_t place = row.choice("in_place", {"0", "1", "first"});
  std::stringstream tensors(row.text("tensors") == "-" ? "" : row.text("tensors"));
  for (std::string part; std::getline(tensors, part, ',');) {
    c->tensors.push_back(tensor_in(part, c->rows));
    c->tensors.back().in_place = place == 1 || (place == 2 && c->tensors.size() == 1);
  }
  c->pad = row.integer("pad");
  c->offset = row.integer("offset");
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->spare = row.integer("spare");
  c->positions = row.text("positions");
  row.choice("positions", {"-", "index", "keep", "renumber"});
  c->position_in_place = place == 1 && c->positions == "keep";
  c->first_position = static_cast<int32_t>(row.integer("first_position"));
  c->moved = row.flag("moved");
}

// `count` entries of a permutation of 0 .. n-1, ascending.
std::vector<int64_t> sorted_choice(int64_t n, int64_t count, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> all = shuffled(n, seed, stream);
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

std::vector<GatherCase> gather_cases() { return read_cases<GatherCase>("gather", read_case); }

int64_t GatherTensorSpec::outer() const {
  int64_t n = 1;
  for (int32_t i = 0; i < axis; ++i) n *= shape[static_cast<size_t>(i)];
  return n;
}

int64_t GatherTensorSpec::inner() const {
  int64_t n = 1;
  for (size_t i = static_cast<size_t>(axis) + 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

HostTensor gather_tensor(const GatherTensorSpec& t, int64_t entries, int64_t pad, int64_t offset) {
  std::vector<int64_t> shape = t.shape;
  shape[static_cast<size_t>(t.axis)] = entries;
  if (t.axis > 0 || shape.size() == 1) {
    HostTensor compact = make_tensor(t.type, {t.outer() * entries * t.inner()}, 0, offset);
    compact.shape = shape;
    return compact;
  }
  HostTensor padded = make_tensor(t.type, {entries, t.inner()}, pad, offset);
  padded.shape = shape;
  return padded;
}

size_t entry_offset(const GatherTensorSpec& t, const HostTensor& tensor, int64_t entries,
                    int64_t outer, int64_t entry) {
  const bool compact = t.axis > 0 || t.shape.size() == 1;
  const int64_t element = compact ? (outer * entries + entry) * t.inner() : entry * tensor.stride;
  return static_cast<size_t>(element * size_of(t.type));
}

namespace {

HostTensor make_list(const GatherCase& c) {
  const bool known = c.list == "identity" || c.list == "every" || c.list == "tail" ||
                     c.list == "sorted" || c.list == "shuffled" || c.list == "random" ||
                     c.list == "padded" || c.list == "none" || c.list == "holes" ||
                     c.list == "over" || c.list == "swapped" || c.list == "twice" ||
                     c.list == "gap";
  if (!known) fail("list: unknown word '" + c.list + "'");
  const bool drawn = c.list == "sorted" || c.list == "padded" || c.list == "over" ||
                     c.list == "swapped" || c.list == "twice" || c.list == "gap";
  const int64_t kept = c.list == "padded" ? c.listed - c.listed / 4 : c.listed;
  std::vector<int64_t> list(static_cast<size_t>(c.listed), -1);
  const std::vector<int64_t> order =
      drawn ? sorted_choice(c.rows, kept, c.seed, 1) : shuffled(c.rows, c.seed, 1);
  for (int64_t i = 0; i < kept; ++i) {
    int64_t& entry = list[static_cast<size_t>(i)];
    if (c.list == "identity") entry = i;
    if (c.list == "every") entry = i * c.rows / c.listed;
    if (c.list == "tail") entry = c.rows - c.listed + i;
    if (c.list == "random") entry = pick(c.seed, 2, i, c.rows);
    if (drawn || c.list == "shuffled" || c.list == "holes") {
      entry = order.at(static_cast<size_t>(i));
    }
    if (c.list == "holes" && pick(c.seed, 3, i, 3) == 0) entry = -1 - pick(c.seed, 4, i, 100);
  }
  const size_t middle = list.size() / 2;
  if (c.list == "over") list.at(middle) = c.rows;
  if (c.list == "swapped") std::swap(list.at(middle), list.at(middle - 1));
  if (c.list == "twice") list.at(middle) = list.at(middle - 1);
  if (c.list == "gap") list.at(middle) = -1;
  return make_integers(list);
}

// The K best sums of the scores of all heads.
HostTensor selected_list(const GatherCase& c, const HostTensor& scores) {
  std::vector<double> sums(static_cast<size_t>(c.rows));
  for (int64_t j = 0; j < c.rows; ++j) {
    float sum = 0;
    for (int64_t h = 0; h < c.heads; ++h) sum += static_cast<float>(scores.at(h, j));
    sums[static_cast<size_t>(j)] = sum;
  }
  SelectionSpec best;
  best.k = best.capacity = c.listed;
  return make_integers(choose(sums, c.rows, best, {}, 0).kept);
}

}  // namespace

GatherInputs make_inputs(const GatherCase& c) {
  GatherInputs in;
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const GatherTensorSpec& t = c.tensors[k];
    HostTensor x = gather_tensor(t, c.rows, c.pad, c.offset);
    const int64_t inner = t.inner();
    for (int64_t o = 0; o < t.outer(); ++o) {
      for (int64_t e = 0; e < c.rows; ++e) {
        put_words(&x, entry_offset(t, x, c.rows, o, e), inner, c.seed, 16 + k,
                  (o * c.rows + e) * inner);
      }
    }
    in.input.push_back(std::move(x));
  }
  if (c.heads > 0)
    in.scores = make_matrix({c.heads, c.rows, Type::kF32, 0, 0, "normal", 1, "-"}, c.seed, 0);
  in.list = c.heads > 0 ? selected_list(c, in.scores) : make_list(c);
  if (c.counted) in.count = make_integers({c.count});
  if (c.positions == "keep") {
    in.position = make_tensor(Type::kI32, {c.rows});
    for (int64_t i = 0; i < c.rows; ++i) in.position.set_integer(i, pick(c.seed, 5, i, 100000));
  }
  return in;
}

namespace {

bool moves_in_place(const GatherCase& c) {
  return c.position_in_place ||
         std::any_of(c.tensors.begin(), c.tensors.end(), [](const auto& t) { return t.in_place; });
}

}  // namespace

GatherExpected gather_oracle(const GatherCase& c, const GatherInputs& in) {
  GatherExpected e;
  e.source.assign(at(c.listed), -1);
  e.position.assign(at(c.listed), 0);
  e.placed.assign(at(c.listed), false);
  const int64_t count = c.counted ? c.count : c.listed;
  std::vector<int64_t> list;
  for (int64_t i = 0; i < std::min(count, c.listed); ++i) list.push_back(in.list.integer_at(i));
  e.refused = count < 0 || count > c.listed ||
              std::any_of(list.begin(), list.end(), [&](int64_t x) { return x >= c.rows; }) ||
              (moves_in_place(c) && !ascends(list));
  if (e.refused) {
    e.moved = -1;
    return e;
  }
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] < 0) continue;
    e.source[i] = list[i];
    e.placed[i] = true;
    e.position[i] = c.positions == "renumber" ? c.first_position + static_cast<int64_t>(i)
                    : c.positions == "keep"   ? in.position.integer_at(list[i])
                                              : list[i];
    ++e.moved;
  }
  return e;
}

namespace {

constexpr unsigned char kUntouched = 0xCD;

HostTensor untouched(HostTensor tensor) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kUntouched);
  return tensor;
}

// What out of tensor `k` holds before the call.
HostTensor out_before(const GatherCase& c, const GatherInputs& in, size_t k) {
  const GatherTensorSpec& t = c.tensors[k];
  if (t.in_place) return in.input[k];
  return untouched(gather_tensor(t, c.listed + c.spare, c.out_pad, c.out_offset));
}

HostTensor position_before(const GatherCase& c, const GatherInputs& in) {
  if (c.position_in_place) return in.position;
  return untouched(make_tensor(Type::kI32, {c.listed + c.spare}));
}

// The call that makes the list, and the list, [K], in place of the selection's [1,K].
const DLTensor* select_list(Instance* instance, const GatherCase& c, const GatherInputs& in) {
  SelectionSpec best;
  best.k = best.capacity = c.listed;
  best.outputs = 0;
  exn_select_params params = {};
  params.struct_size = sizeof params;
  params.scores = instance->input(in.scores);
  params.selection = add_selection(instance, best, {}, 1);
  params.heads = static_cast<int32_t>(c.heads);
  instance->call(EXN_TEST_OP(select), params);
  DLTensor list = *params.selection.indices;
  list.ndim = 1;
  ++list.shape;
  ++list.strides;
  return instance->keep(std::vector<DLTensor>{list});
}

std::unique_ptr<Instance> instantiate(const GatherCase& c, const GatherInputs& in,
                                      int32_t device_type) {
  std::vector<exn_gather_tensor> tensors;
  auto instance = std::make_unique<Instance>(device_type);
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const GatherTensorSpec& t = c.tensors[k];
    const DLTensor* out = instance->in_out("out " + std::to_string(k), out_before(c, in, k));
    tensors.push_back({t.in_place ? out : instance->input(in.input[k]), out, t.axis, 0});
  }
  exn_gather_params params = {};
  params.struct_size = sizeof params;
  params.list = c.heads > 0 ? select_list(instance.get(), c, in) : instance->input(in.list);
  params.count = instance->input(in.count);
  if (c.positions != "-")
    params.position_out = instance->in_out("position_out", position_before(c, in));
  params.position = c.position_in_place ? params.position_out : instance->input(in.position);
  if (c.moved) params.moved = instance->output("moved", Type::kI32, {1});
  params.rows = c.rows;
  params.tensor_count = static_cast<int32_t>(tensors.size());
  params.tensors = instance->keep(std::move(tensors));
  params.positions = c.positions == "renumber" ? EXN_POSITIONS_RENUMBER : EXN_POSITIONS_KEEP;
  params.first_position = c.first_position;
  instance->call(EXN_TEST_OP(gather), params);
  return instance;
}

// What out of tensor `k` holds after the call.
HostTensor out_after(const GatherCase& c, const GatherInputs& in, const GatherExpected& expected,
                     size_t k) {
  const GatherTensorSpec& t = c.tensors[k];
  HostTensor out = out_before(c, in, k);
  const int64_t entries = t.in_place ? c.rows : c.listed + c.spare;
  const auto bytes = t.inner() * static_cast<int64_t>(size_of(t.type));
  for (int64_t outer = 0; outer < t.outer(); ++outer) {
    for (int64_t i = 0; i < c.listed; ++i) {
      const int64_t row = expected.source[static_cast<size_t>(i)];
      if (row < 0) continue;
      const size_t from = entry_offset(t, in.input[k], c.rows, outer, row);
      const size_t to = entry_offset(t, out, entries, outer, i);
      std::copy_n(in.input[k].bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes,
                  out.bytes.begin() + static_cast<std::ptrdiff_t>(to));
    }
  }
  return out;
}

Complaint judge(const GatherCase& c, const GatherInputs& in, const GatherExpected& expected,
                const Outputs& got) {
  size_t next = 0;
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const Complaint complaint =
        compare_bytes("out " + std::to_string(k), out_after(c, in, expected, k), got[next++]);
    if (!complaint.empty()) return complaint;
  }
  if (c.positions != "-") {
    HostTensor position = position_before(c, in);
    for (int64_t i = 0; i < c.listed; ++i) {
      if (expected.placed[static_cast<size_t>(i)])
        position.set_integer(i, expected.position[static_cast<size_t>(i)]);
    }
    const Complaint complaint = compare_bytes("position_out", position, got[next++]);
    if (!complaint.empty()) return complaint;
  }
  if (c.heads > 0) {
    const Complaint complaint = compare_integers("list", expected.source, got[next++]);
    if (!complaint.empty()) return complaint;
  }
  return c.moved ? compare_integers("moved", {expected.moved}, got[next]) : "";
}

// Bytes of the tensors' entries. In place an entry that stays where it is costs nothing.
double moved_bytes(const GatherCase& c, const GatherExpected& expected) {
  int64_t bytes = 0;
  for (int64_t i = 0; i < c.listed; ++i) {
    const int64_t row = expected.source[static_cast<size_t>(i)];
    if (row < 0) continue;
    for (const GatherTensorSpec& t : c.tensors) {
      if (!t.in_place || row != i)
        bytes += t.outer() * t.inner() * static_cast<int64_t>(size_of(t.type));
    }
  }
  return static_cast<double>(2 * bytes);
}

std::string shapes_of(const GatherCase& c) {
  std::string shapes;
  for (const GatherTensorSpec& t : c.tensors) {
    shapes +=
        (shapes.empty() ? "" : " ") + std::string(name_of(t.type)) + ":" + std::to_string(t.axis);
    for (const int64_t size : t.shape) shapes += "," + std::to_string(size);
  }
  return quoted(shapes);
}

Case make_case(const GatherCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return gather_oracle(c, in()); });
  result.judge = [c, in, oracle](const Outputs& got) { return judge(c, in(), oracle(), got); };
  const GatherExpected& expected = oracle();
  const int64_t used = c.counted ? c.count : c.listed;
  const int64_t per_position = c.positions == "keep" ? 8 : c.positions == "-" ? 0 : 4;
  int64_t narrowest = INT64_MAX;
  bool in_place = false;
  for (const GatherTensorSpec& t : c.tensors) {
    narrowest = std::min(narrowest, t.inner());
    in_place = in_place || t.in_place;
  }
  if (!expected.refused) {
    result.compulsory_bytes = moved_bytes(c, expected) +
                              static_cast<double>(4 * used + per_position * expected.moved) +
                              bytes_of(c.heads * c.rows, Type::kF32);
  }
  result.cpu_refuses = expected.refused;
  result.description = {{"rows", text(c.rows)},
                        {"listed", text(c.listed)},
                        {"cols", text(c.tensors.empty() ? 1 : narrowest)},
                        {"tensors", shapes_of(c)},
                        {"positions", text(c.positions != "-")},
                        {"in_place", text(in_place)}};
  return result;
}

void describe(Maker& m, exn_gather_params& p) {
  const Dim rows = m.dim("rows", 0, 9, 60), listed = m.dim("listed", 0, 5, 40), one = m.fixed(1);
  const Dim count = m.count(0, 3, EXN_GATHER_MAX_TENSORS);
  m.zero(FIELD(reserved));
  m.array_count(FIELD(tensor_count), count.size, 0, EXN_GATHER_MAX_TENSORS);
  m.integer(FIELD(rows), rows.size, 0, kMost32);
  int32_t* list = m.ids(FIELD(list), {listed}, {-1, rows.size - 1, false});
  // Ascending with negative entries at the end, as an operation in place needs it.
  for (int64_t i = 0; i < listed.size && m.complete(); ++i)
    list[i] = i < rows.size ? static_cast<int32_t>(i) : -1;
  m.ids(FIELD(count), {one}, {0, listed.size, true}, kOptional);
  m.out(FIELD(moved), kI32, {one}, kOptional);
  exn_gather_tensor* tensors = m.array(FIELD(tensors), count.size);
  const auto describe_tensor = [&](exn_gather_tensor& tensor) {
    struct {
      exn_gather_tensor& tensors;
    } q{tensor};
#define TENSOR(field) q.tensors.field, "tensors[]." #field
    const TypeOf type = m.type(kAnything);
    const Dim columns = m.dim("columns", 0, 9, 60), heads = m.dim("outer", 0, 2, 4);
    const bool as_many = m.some("as_many", 2) && rows.size >= listed.size;
    const Dim entries =
        m.derived(m.size("entries", as_many ? rows.size : plus(listed.size, m.random().below(3))));
    m.zero(TENSOR(reserved));
    const Tensor* input;
    if (m.some(&tensor == tensors ? "first_inner" : "inner", 3)) {
      m.integer(TENSOR(axis), 1, 0, 2);
      input = m.in(TENSOR(input), type, {heads, rows, columns}, kAnyRank);
      m.out_over(TENSOR(out), input, type, {heads, entries, columns}, kAnyRank);
    } else {
      m.integer(TENSOR(axis), 0, 0, 1);
      input = m.in(TENSOR(input), type, {rows, columns}, kAnyRank | kRows);
      m.out_over(TENSOR(out), input, type, {entries, columns}, kAnyRank | kRows);
    }
#undef TENSOR
  };
  for (int64_t i = 0; i < count.size; ++i) describe_tensor(tensors[i]);
  const int32_t positions = m.choice(FIELD(positions), EXN_POSITIONS_KEEP, EXN_POSITIONS_RENUMBER);
  const bool renumbers = positions == EXN_POSITIONS_RENUMBER;
  m.integer(FIELD(first_position), renumbers ? m.random().below(9) : 0, renumbers ? kAny64 : 0,
            renumbers ? INT64_MAX : 0);
  const Dim enough = m.derived(m.size("positions_out", plus(listed.size, m.random().below(3))));
  const bool placed = m.some("placed", 2);
  const Tensor* position = nullptr;
  if (renumbers || !placed) {
    m.none(FIELD(position));
  } else {
    position = m.in(FIELD(position), kI32, {rows}, kOptional);
  }
  m.out_over(FIELD(position_out), position, kI32, {enough},
             kOptional | (placed ? kWanted : kNever));
}

const Described kDescribed = EXN_DESCRIBED(gather);

const RegisteredOp kRegistered("gather",
                               [] { return listed("gather", gather_cases(), make_case); });

}  // namespace

}  // namespace gather_op
}  // namespace exn::test
