// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <sstream>

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace hidden_stack_op {

namespace {

// A script of calls on one stack, which begins empty.
struct HiddenStackCase : CaseBase {
  int64_t capacity = 0;
  MatrixSpec rows;  // pushed
  int64_t stack_pad = 0;
  int64_t stack_offset = 0;
  int64_t gathered = 0;  // rows of the output of GATHER
  int64_t tags = 0;      // M; 0: none
  std::string mask;
  bool overflow = false;
  std::vector<int32_t> script;  // EXN_STACK_*
};

void read_case(const Row& row, HiddenStackCase* c) {
  c->capacity = row.integer("capacity");
  c->rows.rows = row.integer("rows");
  c->rows.cols = row.integer("dim");
  c->rows.type = row.type("dtype");
  c->rows.pad = row.integer("pad");
  c->rows.offset = row.integer("offset");
  c->stack_pad = row.integer("stack_pad");
  c->stack_offset = row.integer("stack_offset");
  c->gathered = row.integer("gathered");
  c->tags = row.integer("tags_per_row");
  c->mask = row.text("mask");
  c->overflow = row.flag("overflow");
  std::stringstream script(row.text("script"));
  for (std::string action; std::getline(script, action, ',');) {
    if (action != "push" && action != "gather" && action != "clear")
      fail("script: unknown word '" + action + "'");
    c->script.push_back(action == "push"     ? EXN_STACK_PUSH
                        : action == "gather" ? EXN_STACK_GATHER
                                             : EXN_STACK_CLEAR);
  }
}

// ---- inputs -------------------------------------------------------------------------------------

HostTensor full_of(unsigned char byte, HostTensor tensor) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), byte);
  return tensor;
}

struct Stack {
  explicit Stack(const HiddenStackCase& c)
      : rows(full_of(0xFF, make_tensor(c.rows.type, {c.capacity, c.rows.cols}, c.stack_pad,
                                       c.stack_offset))),  // NaN
        count(full_of(0, make_tensor(Type::kI32, {1}))) {
    if (c.tags > 0) tags = full_of(0x7B, make_tensor(Type::kI32, {c.tags, c.capacity}));
  }

  HostTensor rows, count, tags;
};

// Of one push.
struct Inputs {
  HostTensor rows, tags, mask;
};

Inputs make_inputs(const HiddenStackCase& c, int64_t call) {
  Inputs in;
  if (c.script[at(call)] != EXN_STACK_PUSH) return in;
  in.rows = make_matrix(c.rows, c.seed, 8 + static_cast<uint64_t>(call));
  const int64_t first = call * c.rows.rows;
  if (c.tags > 0) {
    in.tags = make_tensor(Type::kI32, {c.tags, c.rows.rows});
    for (int64_t i = 0; i < in.tags.size(); ++i) {
      const int64_t tag = i / c.rows.rows, row = i % c.rows.rows;
      in.tags.set_integer(i, pick(c.seed, 4, (first + row) * c.tags + tag, 1000));
    }
  }
  if (c.mask == "-") return in;
  if (c.mask != "some" && c.mask != "none") fail("mask: unknown word '" + c.mask + "'");
  in.mask = make_tensor(Type::kU8, {c.rows.rows});
  for (int64_t r = 0; r < c.rows.rows; ++r)  // any value but 0 is yes
    in.mask.set_integer(r, c.mask == "some" ? pick(c.seed, 5, first + r, 3) : 0);
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

// Row `from` of rows and tags becomes row `to` of others.
void copy_entry(const HostTensor& rows, const HostTensor& tags, int64_t from, HostTensor* to_rows,
                HostTensor* to_tags, int64_t to) {
  copy_row(rows, from, to_rows, to);
  for (int64_t m = 0; m < tags.rows; ++m)
    to_tags->set_integer(m * to_tags->cols + to, tags.integer_at(m * tags.cols + from));
}

// Plays the script. A push or a gather that does not fit does nothing: the CPU refuses it; a device
// says in `overflow` how many rows are too many, and makes all tags of that gather -1.
class Player {
 public:
  Player(const HiddenStackCase& c, bool on_cpu) : c_(c), on_cpu_(on_cpu), stack_(c) {
    for (int64_t call = 0; call < static_cast<int64_t>(c.script.size()); ++call) {
      const int32_t action = c.script[at(call)];
      if (action == EXN_STACK_CLEAR) stack_.count.set_integer(0, 0);
      const int64_t over = action == EXN_STACK_PUSH     ? push(make_inputs(c, call))
                           : action == EXN_STACK_GATHER ? gather("call " + text(call) + " ")
                                                        : 0;
      refused.push_back(over > 0);
      if (!c.overflow) continue;
      later_.emplace_back("call " + text(call) + " overflow", poisoned(Type::kI32, {1}));
      if (!on_cpu || over == 0) later_.back().second.set_integer(0, over);
    }
  }

  ExactOutputs outputs() const {
    ExactOutputs all = {{"stack", stack_.rows}, {"count", stack_.count}};
    if (c_.tags > 0) all.emplace_back("stack_tags", stack_.tags);
    all.insert(all.end(), later_.begin(), later_.end());
    return all;
  }

  std::vector<bool> refused;  // of each call, by the CPU
  int64_t moved = 0;          // rows

 private:
  int64_t push(const Inputs& in) {
    std::vector<int64_t> pushed;
    for (int64_t r = 0; r < c_.rows.rows; ++r) {
      if (id_or(in.mask, r, 1) != 0) pushed.push_back(r);
    }
    const int64_t held = stack_.count.integer_at(0), count = static_cast<int64_t>(pushed.size());
    if (held + count > c_.capacity) return held + count - c_.capacity;
    for (int64_t i = 0; i < count; ++i)
      copy_entry(in.rows, in.tags, pushed[at(i)], &stack_.rows, &stack_.tags, held + i);
    stack_.count.set_integer(0, held + count);
    moved += count;
    return 0;
  }

  int64_t gather(const std::string& where) {
    HostTensor rows =
        poisoned(c_.rows.type, {c_.gathered, c_.rows.cols}, c_.rows.pad, c_.rows.offset);
    HostTensor tags;
    if (c_.tags > 0) tags = poisoned(Type::kI32, {c_.tags, c_.gathered});
    const int64_t held = stack_.count.integer_at(0);
    const int64_t over = std::max<int64_t>(held - c_.gathered, 0);
    if (over == 0 || !on_cpu_) {
      for (int64_t i = 0; i < tags.size(); ++i) tags.set_integer(i, -1);
    }
    if (over == 0) {
      for (int64_t i = 0; i < held; ++i) copy_entry(stack_.rows, stack_.tags, i, &rows, &tags, i);
      moved += held;
    }
    later_.emplace_back(where + "rows", rows);
    if (c_.tags > 0) later_.emplace_back(where + "tags", tags);
    return over;
  }

  const HiddenStackCase& c_;
  bool on_cpu_;
  Stack stack_;
  ExactOutputs later_;
};

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const HiddenStackCase& c, int32_t device_type) {
  const Stack stack(c);
  const std::vector<bool> refused = Player(c, true).refused;
  auto instance = std::make_unique<Instance>(device_type);
  exn_hidden_stack_params params = {};
  params.struct_size = sizeof params;
  params.stack = instance->in_out("stack", stack.rows);
  params.count = instance->in_out("count", stack.count);
  if (c.tags > 0) params.stack_tags = instance->in_out("stack_tags", stack.tags);
  for (int64_t call = 0; call < static_cast<int64_t>(c.script.size()); ++call) {
    const Inputs in = make_inputs(c, call);
    params.action = c.script[at(call)];
    params.rows = instance->input(in.rows);
    params.tags = instance->input(in.tags);
    params.mask = instance->input(in.mask);
    if (params.action == EXN_STACK_GATHER) {
      params.rows = instance->output("rows", c.rows.type, {c.gathered, c.rows.cols}, c.rows.pad,
                                     c.rows.offset);
      if (c.tags > 0) params.tags = instance->output("tags", Type::kI32, {c.tags, c.gathered});
    }
    if (c.overflow) params.overflow = instance->output("overflow", Type::kI32, {1});
    instance->call(EXN_TEST_OP(hidden_stack), params, refused[at(call)]);
  }
  return instance;
}

Case make_case(const HiddenStackCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return compare_bytes(Player(c, false).outputs(), got); };
  result.judge_on_cpu = [c](const Outputs& got) {
    return compare_bytes(Player(c, true).outputs(), got);
  };
  const Player played(c, true);
  result.cpu_refuses =
      std::find(played.refused.begin(), played.refused.end(), true) != played.refused.end();
  result.compulsory_bytes = 2 * (bytes_of(played.moved * c.rows.cols, c.rows.type) +
                                 bytes_of(played.moved * c.tags, Type::kI32));
  result.description = {{"rows", text(c.rows.rows)},
                        {"dim", text(c.rows.cols)},
                        {"dtype", quoted(name_of(c.rows.type))},
                        {"calls", text(static_cast<int64_t>(c.script.size()))}};
  return result;
}

void describe(Maker& m, exn_hidden_stack_params& p) {
  const Dim capacity = m.dim("capacity", 0, 9, 70), columns = m.dim("columns", 0, 30, 300),
            rows = m.dim("rows", 0, 4, 60);
  const Dim tags = m.dim("tags", 1, 3, 5), one = m.fixed(1);
  const TypeOf type = m.type(kFloats);
  const int32_t action = m.mode(FIELD(action), EXN_STACK_PUSH, EXN_STACK_CLEAR);
  m.zero(FIELD(reserved));
  m.in_out(FIELD(stack), type, {capacity, columns}, kRows);
  const bool tagged = m.in_out(FIELD(stack_tags), kI32, {tags, capacity}, kOptional) != nullptr;
  int32_t* count = m.integers(FIELD(count), Role::kInOut, {one}, kPlain);
  TensorField& f = m.fields()[m.field_count() - 1];
  f.has_ids = true;
  f.ids = {0, capacity.size, action != EXN_STACK_CLEAR};
  count[0] = static_cast<int32_t>(m.random().between(0, capacity.size));
  const int64_t space = capacity.size - count[0];
  const bool fits = action == EXN_STACK_PUSH ? rows.size <= space : count[0] <= rows.size;
  if (!fits && action == EXN_STACK_PUSH)
    count[0] = static_cast<int32_t>(std::max<int64_t>(0, capacity.size - rows.size));
  if (!fits && action == EXN_STACK_GATHER) count[0] = static_cast<int32_t>(rows.size);
  const bool too_many = action == EXN_STACK_PUSH && rows.size > capacity.size;
  const Dim pushed = m.derived(m.size("pushed", too_many ? capacity.size : rows.size));
  if (action == EXN_STACK_CLEAR) {
    m.none(FIELD(rows));
    m.none(FIELD(mask));
    tagged ? (void)m.in(FIELD(tags), kI32, {tags, pushed}, kOptional | kNever)
           : m.none(FIELD(tags));
  } else if (action == EXN_STACK_PUSH) {
    m.in(FIELD(rows), type, {pushed, columns}, kRows);
    tagged ? (void)m.in(FIELD(tags), kI32, {tags, pushed}) : m.none(FIELD(tags));
    m.in(FIELD(mask), kU8, {pushed}, kOptional);
  } else {
    m.out(FIELD(rows), type, {pushed, columns}, kRows);
    tagged ? (void)m.out(FIELD(tags), kI32, {tags, pushed}) : m.none(FIELD(tags));
    m.none(FIELD(mask));
  }
  m.out(FIELD(overflow), kI32, {one}, kOptional);
}

const Described kDescribed = EXN_DESCRIBED(hidden_stack);

const RegisteredOp kRegistered("hidden_stack", [] {
  return listed("hidden_stack", read_cases<HiddenStackCase>("hidden_stack", read_case), make_case);
});

}  // namespace

}  // namespace hidden_stack_op
}  // namespace exn::test
