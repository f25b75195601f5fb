// SPDX-License-Identifier: Apache-2.0
#include "kv_compact/case.h"

#include <algorithm>
#include <set>

#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace kv_compact_op {

int64_t KvCompactCase::sequences() const {
  return sequence == "some" ? (source.sequences + 1) / 2 : source.sequences;
}

int64_t KvCompactCase::lists() const { return sequences() * (per_head ? destination.heads : 1); }

namespace {

void read_case(const Row& row, KvCompactCase* c) {
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
    c->freed =
        row.text("freed") == "all" ? c->sequences() * c->source.blocks() : row.integer("freed");
  }
  c->new_length = row.flag("new_length");
}

// Every slot of every sequence holds bits that mean nothing; what is no slot keeps its NaN.
CacheTensors random_cache(const CacheSpec& c, uint64_t seed, uint64_t stream) {
  CacheTensors t = empty_cache(c, seed);
  for (int64_t row = 0; row < c.sequences * c.slots; ++row) {
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t to = cache_index(c, t.block_table, row / c.slots, row % c.slots, head, 0);
      const size_t byte = static_cast<size_t>(to * size_of(c.type));
      const int64_t first = row * c.columns() + head * c.dim;
      put_words(&t.k, byte, c.dim, seed, stream, first);
      put_words(&t.v, byte, c.dim, seed, stream + 1, first);
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
  return make_integers(list);
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
    in->count = make_integers(counts);
    in->list = make_integers(all);
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
  in->list = make_integers(all);
  in->offsets = make_integers(ends);
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

std::vector<KvCompactCase> kv_compact_cases() {
  return read_cases<KvCompactCase>("kv_compact", read_case);
}

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

// ---- the oracle ---------------------------------------------------------------------------------

namespace {

// The call seen as plain lists, or as refused.
class KvCompaction {
 public:
  KvCompaction(const KvCompactCase& c, const KvCompactInputs& in) : c_(c), in_(in) {
    refused_ = !read_sequences() || !read_lists() || !slots_fit() || !pages_fit();
  }

  bool refused() const { return refused_; }
  const std::vector<int64_t>& list(int64_t g) const { return lists_[at(g)]; }
  int64_t sequence(int64_t b) const { return sequences_[at(b)]; }
  int64_t list_of(int64_t b, int64_t head) const {
    return c_.per_head ? b * c_.destination.heads + head : b;
  }
  int64_t length(int64_t b) const {
    return in_.length.given() ? in_.length.integer_at(b) : c_.source.slots;
  }
  int64_t longest(int64_t b) const {
    size_t most = 0;
    for (int64_t head = 0; head < c_.destination.heads; ++head)
      most = std::max(most, list(list_of(b, head)).size());
    return static_cast<int64_t>(most);
  }

 private:
  bool read_sequences() {
    std::set<int64_t> seen;
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      const int64_t s = in_.sequence.given() ? in_.sequence.integer_at(b) : b;
      if (s < 0 || s >= c_.source.sequences || !seen.insert(s).second) return false;
      if (length(b) < 0 || length(b) > c_.source.slots) return false;
      sequences_.push_back(s);
    }
    return true;
  }

  bool read_lists() {
    for (int64_t g = 0; g < c_.lists(); ++g) {
      const bool packed = in_.offsets.given();
      const int64_t width = packed ? 0 : in_.list.cols;
      const int64_t begin = packed ? in_.offsets.integer_at(g) : g * width;
      const int64_t end = packed ? in_.offsets.integer_at(g + 1) : begin + in_.count.integer_at(g);
      const int64_t limit = packed ? in_.list.size() : begin + width;
      if (begin < 0 || end < begin || end > limit) return false;
      if (end - begin > c_.destination.slots) return false;
      lists_.emplace_back();
      for (int64_t i = begin; i < end; ++i) lists_.back().push_back(in_.list.integer_at(i));
    }
    return true;
  }

  bool slots_fit() const {
    for (int64_t g = 0; g < c_.lists(); ++g) {
      const int64_t b = c_.per_head ? g / c_.destination.heads : g;
      for (int64_t slot : list(g)) {
        if (slot < 0 || slot >= length(b)) return false;
      }
      if (c_.in_place && !ascends(list(g))) return false;
    }
    return true;
  }

  bool pages_fit() const {
    if (c_.source.layout == EXN_KV_PAGED && !pages_read_exist()) return false;
    if (c_.destination.layout != EXN_KV_PAGED) return true;
    const HostTensor& table = c_.in_place ? in_.source.block_table : in_.destination.block_table;
    const CacheSpec& spec = c_.destination;
    std::set<int64_t> used;
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      std::set<int64_t> blocks;
      const bool whole = c_.in_place && in_.length.given();
      const int64_t slots = whole ? length(b) : longest(b);
      for (int64_t block = 0; block * spec.page < slots; ++block) blocks.insert(block);
      for (int64_t head = 0; c_.in_place && head < spec.heads; ++head) {
        for (int64_t slot : list(list_of(b, head))) blocks.insert(slot / spec.page);
      }
      for (int64_t block : blocks) {
        const int64_t page = table.integer_at(sequence(b) * spec.blocks() + block);
        if (page < 0 || page >= spec.pages() || !used.insert(page).second) return false;
      }
    }
    return true;
  }

  bool pages_read_exist() const {
    for (int64_t b = 0; b < c_.sequences(); ++b) {
      for (int64_t head = 0; head < c_.destination.heads; ++head) {
        for (int64_t slot : list(list_of(b, head))) {
          const int64_t page = in_.source.block_table.integer_at(sequence(b) * c_.source.blocks() +
                                                                 slot / c_.source.page);
          if (page < 0 || page >= c_.source.pages()) return false;
        }
      }
    }
    return true;
  }

  const KvCompactCase& c_;
  const KvCompactInputs& in_;
  bool refused_ = false;
  std::vector<int64_t> sequences_;
  std::vector<std::vector<int64_t>> lists_;
};

void move_lists(const KvCompactCase& c, const KvCompactInputs& in, const KvCompaction& lists,
                CacheTensors* to) {
  const int64_t group = c.destination.heads / c.source.heads;
  const size_t bytes = at(c.source.dim * size_of(c.source.type));
  const auto byte = [&](const CacheSpec& spec, const CacheTensors& t, int64_t sequence,
                        int64_t slot, int64_t head) {
    return cache_index(spec, t.block_table, sequence, slot, head, 0) * size_of(spec.type);
  };
  for (int64_t b = 0; b < c.sequences(); ++b) {
    for (int64_t head = 0; head < c.destination.heads; ++head) {
      const std::vector<int64_t>& list = lists.list(lists.list_of(b, head));
      for (size_t i = 0; i < list.size(); ++i) {
        const int64_t s = lists.sequence(b);
        const int64_t from = byte(c.source, in.source, s, list[i], head / group);
        const int64_t into = byte(c.destination, *to, s, static_cast<int64_t>(i), head);
        std::copy_n(in.source.k.bytes.begin() + from, bytes, to->k.bytes.begin() + into);
        std::copy_n(in.source.v.bytes.begin() + from, bytes, to->v.bytes.begin() + into);
      }
    }
  }
}

}  // namespace

KvCompactExpected kv_compact_oracle(const KvCompactCase& c, const KvCompactInputs& in) {
  KvCompactExpected e;
  const KvCompaction lists(c, in);
  e.cache = c.in_place ? in.source : in.destination;
  e.freed.assign(at(c.freed), -1);
  e.refused = lists.refused();
  e.new_length.assign(at(c.lists()), -1);
  if (e.refused) return e;
  move_lists(c, in, lists, &e.cache);
  for (int64_t g = 0; g < c.lists(); ++g)
    e.new_length[at(g)] = static_cast<int32_t>(lists.list(g).size());
  for (int64_t b = 0; c.frees && b < c.sequences(); ++b) {
    const int64_t page = c.source.page;
    const int64_t begin = (lists.longest(b) + page - 1) / page;
    const int64_t end = (lists.length(b) + page - 1) / page;
    for (int64_t block = begin; block < end; ++block, ++e.freed_count) {
      if (e.freed_count >= c.freed) continue;
      e.freed[at(e.freed_count)] = static_cast<int32_t>(
          in.source.block_table.integer_at(lists.sequence(b) * c.source.blocks() + block));
    }
  }
  return e;
}

// ---- the case -----------------------------------------------------------------------------------

namespace {

std::unique_ptr<Instance> instantiate(const KvCompactCase& c, const KvCompactInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_kv_compact_params params = {};
  params.struct_size = sizeof params;
  params.destination =
      in_out_cache(instance.get(), c.destination, c.in_place ? in.source : in.destination);
  params.source =
      c.in_place ? params.destination : input_cache(instance.get(), c.source, in.source);
  params.list = instance->input(in.list);
  params.offsets = instance->input(in.offsets);
  params.count = instance->input(in.count);
  params.sequence = instance->input(in.sequence);
  params.length = instance->input(in.length);
  if (c.new_length) params.new_length = instance->output("new_length", Type::kI32, {c.lists()});
  if (c.frees) {
    params.freed = instance->output("freed", Type::kI32, {c.freed});
    params.freed_count = instance->output("freed_count", Type::kI32, {1});
  }
  params.per_head = c.per_head ? 1 : 0;
  instance->call(EXN_TEST_OP(kv_compact), params);
  return instance;
}

Complaint judge(const KvCompactCase& c, const KvCompactExpected& expected, const Outputs& got) {
  size_t next = 2;
  Complaint complaint = first_of(
      {compare_bytes("k", expected.cache.k, got[0]), compare_bytes("v", expected.cache.v, got[1])});
  if (complaint.empty() && c.new_length)
    complaint = compare_integers("new_length", widened(expected.new_length), got[next++]);
  if (!complaint.empty() || !c.frees) return complaint;
  return first_of({compare_integers("freed", widened(expected.freed), got[next]),
                   compare_integers("freed_count", {expected.freed_count}, got[next + 1])});
}

// Entries of list g that the cases name, of a list that is sound.
int64_t entries_of(const KvCompactInputs& in, int64_t g, int64_t* begin) {
  if (in.count.given()) {
    *begin = g * in.list.cols;
    return in.count.integer_at(g);
  }
  *begin = in.offsets.integer_at(g);
  return in.offsets.integer_at(g + 1) - *begin;
}

// Bytes of K and V. In place an entry that stays where it is costs nothing.
double moved_bytes(const KvCompactCase& c, const KvCompactInputs& in, int64_t* listed) {
  int64_t moved = 0;  // entries, of a head each
  for (int64_t g = 0; g < c.lists(); ++g) {
    int64_t begin = 0;
    const int64_t entries = entries_of(in, g, &begin);
    *listed += entries;
    for (int64_t i = 0; i < entries; ++i) {
      const bool stays = c.in_place && in.list.integer_at(begin + i) == i;
      moved += stays ? 0 : c.per_head ? 1 : c.destination.heads;
    }
  }
  return bytes_of(4 * moved * c.source.dim, c.source.type);
}

Case make_case(const KvCompactCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return kv_compact_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  result.cpu_refuses = oracle().refused;
  int64_t listed = 0;
  if (!result.cpu_refuses) {
    result.compulsory_bytes = moved_bytes(c, in(), &listed);
    result.compulsory_bytes += bytes_of(listed, Type::kI32);
  }
  result.description = {{"sequences", text(c.sequences())},
                        {"heads", text(c.source.heads)},
                        {"to_heads", text(c.destination.heads)},
                        {"slots", text(c.source.slots)},
                        {"page", text(c.source.page)},
                        {"head_dim", text(c.source.dim)},
                        {"kept", text(c.lists() > 0 ? listed / c.lists() : 0)},
                        {"elements", text(listed * c.source.dim)},
                        {"dtype", quoted(name_of(c.source.type))},
                        {"layout", layout_name(c.source)},
                        {"to_layout", layout_name(c.destination)},
                        {"per_head", text(c.per_head)},
                        {"in_place", text(c.in_place)}};
  return result;
}

void describe(Maker& m, exn_kv_compact_params& p) {
  constexpr CacheNames kFrom = CACHE_NAMES("source"), kTo = CACHE_NAMES("destination");
  const CacheShape from = cache_shape(m, kFrom);
  const bool in_place = m.some("in_place", 2);
  CacheShape to = from;
  if (!in_place) {
    const int32_t layout = cache_layout(m, kTo);
    const Dim heads = m.derived(times(from.heads.size, m.within("group", 1, 2)));
    to = cache_shape(m, kTo, layout, from.sequences, heads, from.dim, from.type);
  }
  m.zero(FIELD(reserved));
  cache(m, p.destination, kTo, to, Role::kInOut);
  if (in_place) {
    cache_again(m, p.source, kFrom, p.destination);
  } else {
    cache(m, p.source, kFrom, from, Role::kIn);
  }
  const int32_t per_head = m.choice(FIELD(per_head), 0, 1);
  const int64_t sequences = from.sequences.size;
  const bool named = m.some("named", 2);  // as many as there are, in the other order
  const int64_t length_of_batch = m.size("batch", sequences);
  const Dim batch{length_of_batch, named ? m.derived(0).symbol : from.sequences.symbol};
  const int64_t lists = times(batch.size, per_head == 1 ? to.heads.size : 1);
  const Dim list_count = m.fixed(lists), one = m.fixed(1);
  int32_t* sequence = m.ids(FIELD(sequence), {batch}, {0, sequences - 1, true},
                            kOptional | (named ? kWanted : kNever));
  for (int64_t i = 0; sequence != nullptr && i < batch.size && m.complete(); ++i)
    sequence[i] = static_cast<int32_t>(sequences - 1 - i);
  // Each list keeps the first `kept` of `used` slots.
  const int64_t used = std::min(from.slots, to.slots);
  const bool packed = m.some("packed", 2);
  int64_t kept = m.random().between(0, used);
  const Dim width =
      m.derived(m.size("width", packed ? times(lists, kept) : plus(kept, m.random().below(3))));
  if (lists > 0) kept = std::min(kept, packed ? width.size / lists : width.size);
  int32_t* list = packed ? m.ids(FIELD(list), {width}, {0, from.slots - 1, false})
                         : m.ids(FIELD(list), {list_count, width}, {0, from.slots - 1, false});
  const int64_t stride = packed ? kept : width.size;
  for (int64_t g = 0; kept > 0 && g < lists && m.complete(); ++g) {
    for (int64_t i = 0; i < kept; ++i) list[g * stride + i] = static_cast<int32_t>(i);
  }
  if (packed) {
    int32_t* offsets =
        m.ids(FIELD(offsets), {m.fixed(plus(lists, 1))}, {0, times(lists, kept), true});
    for (int64_t g = 0; g <= lists && m.complete(); ++g)
      offsets[g] = static_cast<int32_t>(g * kept);
    m.none(FIELD(count));
  } else {
    m.none(FIELD(offsets));
    m.ids(FIELD(count), {list_count}, {0, kept, false});
  }
  const bool may_free = in_place && from.layout == EXN_KV_PAGED;
  const bool frees = may_free && m.some("frees", 2);
  int32_t* length =
      m.ids(FIELD(length), {batch}, {0, from.slots, true}, frees ? kPlain : kOptional);
  for (int64_t i = 0; length != nullptr && i < batch.size && m.complete(); ++i)
    length[i] = static_cast<int32_t>(m.random().between(used, from.slots));
  m.out(FIELD(new_length), kI32, {list_count}, kOptional);
  may_free ? (void)m.out(FIELD(freed), kI32, {m.dim("freed", 0, 9, 20)},
                         kOptional | (frees ? kWanted : kNever))
           : m.none(FIELD(freed));
  frees ? (void)m.out(FIELD(freed_count), kI32, {one}, kOptional) : m.none(FIELD(freed_count));
}

const Described kDescribed = EXN_DESCRIBED(kv_compact);

const RegisteredOp kRegistered("kv_compact",
                               [] { return listed("kv_compact", kv_compact_cases(), make_case); });

}  // namespace

}  // namespace kv_compact_op
}  // namespace exn::test
