// SPDX-License-Identifier: Apache-2.0
#include "case_table_moves.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "table.h"

namespace exn::test {

namespace {

int64_t number_in(const char* column, const std::string& text) {
  char* end = nullptr;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') fail(std::string(column) + ": unknown word '" + text + "'");
  return value;
}

double f64_in(const Row& row, const char* column) {
  const std::string& text = row.text(column);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') fail(std::string(column) + ": '" + text + "' is no number");
  return value;
}

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

// `count` entries of a permutation of 0 .. n-1, ascending.
std::vector<int64_t> sorted_choice(int64_t n, int64_t count, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> all = shuffled(n, seed, stream);
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

// The low bytes of word(seed, stream, i) for element i.
void put_word(HostTensor* t, size_t at, uint64_t seed, uint64_t stream, int64_t i) {
  const uint64_t w = word(seed, stream, static_cast<uint64_t>(i));
  for (int64_t b = 0; b < size_of(t->type); ++b) {
    t->bytes[at + static_cast<size_t>(b)] = static_cast<unsigned char>(w >> 8 * b);
  }
}

HostTensor integers_of(const std::vector<int64_t>& values) {
  HostTensor t = make_tensor(Type::kI32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_integer(static_cast<int64_t>(i), values[i]);
  return t;
}

}  // namespace

// ---- gather -------------------------------------------------------------------------------------

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

std::vector<GatherCase> gather_cases() {
  return read_cases<GatherCase>("gather", [](const Row& row, GatherCase* c) {
        c->rows = row.integer("rows");
        c->listed = row.integer("listed");
        c->counted = row.text("count") != "-";
        if (c->counted) c->count = row.integer("count");
        c->list = row.text("list");
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
      });
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
  const int64_t element =
      compact ? (outer * entries + entry) * t.inner() : entry * tensor.stride;
  return static_cast<size_t>(element * size_of(t.type));
}

int64_t elements_of(const GatherCase& c) {
  int64_t n = c.listed + c.rows;
  for (const GatherTensorSpec& t : c.tensors) {
    const int64_t entries = c.rows + (t.in_place ? 0 : c.listed + c.spare);
    n += t.outer() * entries * t.inner();
  }
  return n;
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
  return integers_of(list);
}

}  // namespace

GatherInputs make_inputs(const GatherCase& c) {
  GatherInputs in;
  for (size_t k = 0; k < c.tensors.size(); ++k) {
    const GatherTensorSpec& t = c.tensors[k];
    HostTensor x = gather_tensor(t, c.rows, c.pad, c.offset);
    const int64_t size = size_of(t.type);
    for (int64_t o = 0; o < t.outer(); ++o) {
      for (int64_t e = 0; e < c.rows; ++e) {
        const size_t at = entry_offset(t, x, c.rows, o, e);
        for (int64_t i = 0; i < t.inner(); ++i) {
          put_word(&x, at + static_cast<size_t>(i * size), c.seed, 16 + k,
                   (o * c.rows + e) * t.inner() + i);
        }
      }
    }
    in.input.push_back(std::move(x));
  }
  in.list = make_list(c);
  if (c.counted) in.count = integers_of({c.count});
  if (c.positions == "keep") {
    in.position = make_tensor(Type::kI32, {c.rows});
    for (int64_t i = 0; i < c.rows; ++i) in.position.set_integer(i, pick(c.seed, 5, i, 100000));
  }
  return in;
}

// ---- kv_compact ---------------------------------------------------------------------------------

int64_t KvCompactCase::sequences() const {
  return sequence == "some" ? (source.sequences + 1) / 2 : source.sequences;
}

int64_t KvCompactCase::lists() const { return sequences() * (per_head ? destination.heads : 1); }

std::vector<KvCompactCase> kv_compact_cases() {
  return read_cases<KvCompactCase>("kv_compact", [](const Row& row, KvCompactCase* c) {
        c->source = read_cache(row, "dtype", "offset");
        c->in_place = row.flag("in_place");
        c->destination = c->source;
        if (!c->in_place) {
          read_layout(row, "to_layout", "sequences", "to_slots", "to_page", &c->destination);
          c->destination.heads = row.integer("to_heads");
          c->destination.offset = row.integer("to_offset");
        }
        c->per_head = row.flag("per_head");
        c->sequence = row.text("sequence");
        row.choice("sequence", {"-", "reversed", "some", "twice", "over"});
        c->length = row.text("length");
        c->kept = row.text("kept");
        c->list = row.text("list");
        row.choice("list", {"identity", "tail", "sorted", "shuffled", "random", "over", "swapped",
                            "twice", "negative"});
        c->form = row.text("form");
        row.choice("form", {"packed", "gaps", "padded", "falling", "beyond", "before", "count_over",
                            "count_negative"});
        c->pages = row.text("pages");
        row.choice("pages", {"-", "unused", "from_over", "to_over", "from_minus", "to_minus",
                             "from_shared", "to_shared"});
        c->frees = row.text("freed") != "-";
        if (c->frees) {
          c->freed = row.text("freed") == "all" ? c->sequences() * c->source.blocks()
                                                : row.integer("freed");
        }
        c->new_length = row.flag("new_length");
      });
}

int64_t elements_of(const KvCompactCase& c) {
  const auto of = [](const CacheSpec& s) {
    return 2 * s.columns() *
           (s.layout == EXN_KV_PAGED ? s.pages() * s.page : s.sequences * s.slots);
  };
  return of(c.source) + (c.in_place ? 0 : of(c.destination)) + c.lists() * c.source.slots;
}

namespace {

// Every slot of every sequence holds bits that mean nothing; what is no slot keeps its NaN.
CacheTensors random_cache(const CacheSpec& c, uint64_t seed, uint64_t stream) {
  CacheTensors t = empty_cache(c, seed);
  for (int64_t row = 0; row < c.sequences * c.slots; ++row) {
    for (int64_t i = 0; i < c.columns(); ++i) {
      const int64_t at = cache_index(c, t.block_table, row / c.slots, row % c.slots, i / c.dim,
                                     i % c.dim);
      const size_t byte = static_cast<size_t>(at * size_of(c.type));
      put_word(&t.k, byte, seed, stream, row * c.columns() + i);
      put_word(&t.v, byte, seed, stream + 1, row * c.columns() + i);
    }
  }
  return t;
}

HostTensor compacted_sequences(const KvCompactCase& c) {
  if (c.sequence == "-") return {};
  std::vector<int64_t> list;
  for (int64_t b = 0; b < c.sequences(); ++b) {
    list.push_back(c.sequence == "reversed" ? c.source.sequences - 1 - b
                   : c.sequence == "some"   ? 2 * b
                   : c.sequence == "twice"  ? b / 2
                                            : b + 1);
  }
  return integers_of(list);
}

int64_t length_of(const KvCompactCase& c, int64_t b) {
  const int64_t slots = c.source.slots;
  if (c.length == "-" || c.length == "full") return slots;
  if (c.length == "random") return pick(c.seed, 4, b, slots + 1);
  if (c.length == "over") return slots + 1;
  return number_in("length", c.length);
}

int64_t kept_of(const KvCompactCase& c, int64_t list, int64_t length) {
  if (c.kept == "all") return length;
  if (c.kept == "half") return length / 2;
  if (c.kept == "random") return pick(c.seed, 5, list, length + 1);
  return std::min(number_in("kept", c.kept), length);
}

std::vector<int64_t> one_list(const KvCompactCase& c, int64_t g) {
  const int64_t length = std::min(length_of(c, g * c.sequences() / c.lists()), c.source.slots);
  const int64_t n = kept_of(c, g, length);
  const uint64_t stream = 64 + static_cast<uint64_t>(g);
  std::vector<int64_t> list = shuffled(length, c.seed, stream);
  list.resize(static_cast<size_t>(n));
  if (c.list != "shuffled") std::sort(list.begin(), list.end());
  for (int64_t i = 0; i < n; ++i) {
    int64_t& entry = list[static_cast<size_t>(i)];
    if (c.list == "identity") entry = i;
    if (c.list == "tail") entry = length - n + i;
    if (c.list == "random") entry = pick(c.seed, stream, i, length);
  }
  if (c.list == "over" && n > 0) list.back() = length;
  if (c.list == "negative" && n > 0) list.front() = -1;
  if (c.list == "swapped" && n > 1) std::swap(list[0], list[1]);
  if (c.list == "twice" && n > 1) list[1] = list[0];
  return list;
}

void make_lists(const KvCompactCase& c, KvCompactInputs* in) {
  std::vector<std::vector<int64_t>> lists;
  size_t longest = 0;
  for (int64_t g = 0; g < c.lists(); ++g) {
    lists.push_back(one_list(c, g));
    longest = std::max(longest, lists.back().size());
  }
  const size_t width = longest + 2;
  std::vector<int64_t> all, ends, counts;
  if (c.form == "padded" || c.form == "count_over" || c.form == "count_negative") {
    for (std::vector<int64_t>& list : lists) {
      counts.push_back(static_cast<int64_t>(list.size()));
      list.resize(width, -1);
      all.insert(all.end(), list.begin(), list.end());
    }
    if (c.form == "count_over") counts.at(0) = static_cast<int64_t>(width) + 1;
    if (c.form == "count_negative") counts.at(0) = -1;
    in->count = integers_of(counts);
    in->list = integers_of(all);
    in->list.rows = c.lists();
    in->list.cols = in->list.stride = static_cast<int64_t>(width);
    in->list.shape = {c.lists(), static_cast<int64_t>(width)};
    return;
  }
  if (c.form == "gaps") all.assign(3, -7);
  ends.push_back(static_cast<int64_t>(all.size()));
  for (const std::vector<int64_t>& list : lists) {
    all.insert(all.end(), list.begin(), list.end());
    ends.push_back(static_cast<int64_t>(all.size()));
  }
  if (c.form == "gaps") all.insert(all.end(), 2, -7);
  if (c.form == "falling") ends.at(1) = ends.at(2) + 1;
  if (c.form == "beyond") ends.back() += 1;
  if (c.form == "before") ends.front() = -1;
  in->list = integers_of(all);
  in->offsets = integers_of(ends);
}

// Blocks of a table that lie past the first `used` slots of a sequence.
void forget_blocks(const CacheSpec& c, HostTensor* table, int64_t sequence, int64_t used) {
  for (int64_t block = (used + c.page - 1) / c.page; block < c.blocks(); ++block)
    table->set_integer(sequence * c.blocks() + block, -1);
}

void spoil_pages(const KvCompactCase& c, KvCompactInputs* in) {
  HostTensor* from = &in->source.block_table;
  HostTensor* to = c.in_place ? from : &in->destination.block_table;
  const int64_t first = in->sequence.given() ? in->sequence.integer_at(0) : 0;
  const int64_t from_at = first * c.source.blocks(), to_at = first * c.destination.blocks();
  if (c.pages == "from_over") from->set_integer(from_at, c.source.pages());
  if (c.pages == "to_over") to->set_integer(to_at, c.destination.pages());
  if (c.pages == "from_minus") from->set_integer(from_at, -1);
  if (c.pages == "to_minus") to->set_integer(to_at, -1);
  if (c.pages == "from_shared") from->set_integer(from_at + 1, from->integer_at(from_at));
  if (c.pages == "to_shared") to->set_integer(to_at + 1, to->integer_at(to_at));
  if (c.pages != "unused") return;
  std::vector<int64_t> used(static_cast<size_t>(c.source.sequences), 0), kept = used;
  for (int64_t g = 0; g < c.lists(); ++g) {
    const int64_t b = g * c.sequences() / c.lists();
    const size_t s = static_cast<size_t>(in->sequence.given() ? in->sequence.integer_at(b) : b);
    used[s] = length_of(c, b);
    kept[s] = std::max(kept[s], kept_of(c, g, used[s]));
  }
  for (size_t s = 0; s < used.size(); ++s) {
    const int64_t at = static_cast<int64_t>(s);
    if (from->given()) forget_blocks(c.source, from, at, used[s]);
    if (to->given() && !c.in_place) forget_blocks(c.destination, to, at, kept[s]);
  }
}

}  // namespace

KvCompactInputs make_inputs(const KvCompactCase& c) {
  KvCompactInputs in;
  in.source = random_cache(c.source, c.seed, 0);
  if (!c.in_place) in.destination = random_cache(c.destination, c.seed + 1, 2);
  in.sequence = compacted_sequences(c);
  if (c.length != "-") {
    in.length = make_tensor(Type::kI32, {c.sequences()});
    for (int64_t b = 0; b < c.sequences(); ++b) in.length.set_integer(b, length_of(c, b));
  }
  make_lists(c, &in);
  spoil_pages(c, &in);
  return in;
}

// ---- hired_budget -------------------------------------------------------------------------------

std::vector<HiredBudgetCase> hired_budget_cases() {
  return read_cases<HiredBudgetCase>("hired_budget", [](const Row& row, HiredBudgetCase* c) {
        c->patch_rows = row.integer("patch_rows");
        c->patch_cols = row.integer("patch_cols");
        c->attention = {row.integer("images"), c->patches(),
                        Type::kF32,            row.integer("pad"),
                        row.integer("offset"), row.text("fill"),
                        row.number("scale"),   row.text("special")};
        c->rate = f64_in(row, "rate");
        c->alpha = f64_in(row, "alpha");
        c->grid_rows = row.integer("grid_rows");
        c->grid_cols = row.integer("grid_cols");
        c->score = row.choice("score", {"sum", "top_count"});
        c->region = row.choice("region", {"grid", "strip"});
        c->remainder = row.choice("remainder", {"truncate", "largest"});
        c->outputs = row.text("outputs") == "-" ? 0 : row.subset("outputs", {"marks", "valid"});
      });
}

int64_t elements_of(const HiredBudgetCase& c) {
  return c.attention.rows * (c.patches() + 1 + c.parts());
}

HiredBudgetInputs make_inputs(const HiredBudgetCase& c) {
  if (c.attention.fill != "unit") return {make_matrix(c.attention, c.seed, 0)};
  MatrixSpec zeros = c.attention;
  zeros.fill = "zero";
  HiredBudgetInputs in = {make_matrix(zeros, c.seed, 0)};
  for (int64_t i = 0; i < in.attention.size(); ++i) {
    const int64_t row = i / c.patches(), column = i % c.patches();
    const float share = unit(word(c.seed, 0, static_cast<uint64_t>(i))) * c.attention.scale;
    const bool special = in.attention.at(row, column) != 0;
    if (!special) in.attention.set(row, column, static_cast<double>(share));
  }
  return in;
}

}  // namespace exn::test
