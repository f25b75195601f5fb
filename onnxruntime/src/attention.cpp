// SPDX-License-Identifier: Apache-2.0
#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace exn::ort {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  throw Failure(kInvalidArgument, "exeunt: GroupQueryAttention: " + text);
}

void expect(const char* name, const TensorView& tensor, const std::vector<int64_t>& shape) {
  if (tensor.shape != shape) {
    refuse(std::string(name) + " is " + text_of(tensor.shape) + ", expected " + text_of(shape));
  }
}

}  // namespace

// One run.
struct GroupQuery::Call {
  int64_t batch = 0, rows = 0, dim = 0, past = 0, slots = 0;
  TensorView query, key, value;  // in one tensor or in three
  int64_t query_stride = 0, key_stride = 0;
  TensorView past_key, past_value, present_key, present_value, out;
  std::vector<int32_t> kept;      // of each sequence: slots that are filled already
  std::vector<int32_t> position;  // of each row
  bool shared_keys = false, shared_values = false;  // past and present are one buffer
};

GroupQuery::GroupQuery(const Graph& g, const Attention& a, const Settings& settings)
    : api_(g.api),
      threads_(settings.threads),
      heads_(a.heads),
      kv_heads_(a.kv_heads),
      scale_(a.scale),
      softcap_(a.softcap),
      rotary_(a.rotary),
      interleaved_(a.interleaved) {
  const Node& node = g.nodes[a.node];
  type_ = g.values[node.inputs[0]].type;
  const auto operand = [&](size_t i) {
    Operand out;
    const Value* value = g.input(node, i);
    if (value == nullptr) return out;
    out.given = true;
    out.held = value->constant != nullptr;
    if (out.held) {
      out.constant = view_of(api_, value->constant);
      const auto* data = out.constant.as<char>();
      out.bytes.assign(data, data + out.constant.count() * bytes_of(out.constant.type));
      out.constant.data = nullptr;  // the graph's
    } else {
      out.slot = g.slot(node.input(i));
    }
    return out;
  };
  query_ = operand(0);
  key_ = operand(1);
  value_ = operand(2);
  past_key_ = operand(3);
  past_value_ = operand(4);
  lengths_ = operand(5);
  total_ = operand(6);
  if (rotary_) positions_ = operand(9);
  out_ = g.slot(node.outputs[0]);
  present_key_ = g.slot(node.outputs[1]);
  present_value_ = g.slot(node.outputs[2]);
  if (!rotary_) return;
  const std::vector<float> cosines = g.floats(node.inputs[7]), sines = g.floats(node.inputs[8]);
  if (cosines.size() != sines.size()) refuse("cos_cache and sin_cache differ in size");
  table_rows_ = g.values[node.inputs[7]].shape[0];
  table_pairs_ = g.values[node.inputs[7]].shape[1];
  for (size_t i = 0; i < cosines.size(); ++i) {
    table_.push_back(cosines[i]);
    table_.push_back(sines[i]);
  }
}

void GroupQuery::bind(const Places& inputs, const Places& outputs) {
  for (Operand* operand :
       {&query_, &key_, &value_, &past_key_, &past_value_, &lengths_, &total_, &positions_}) {
    if (operand->given && !operand->held) operand->slot.require(inputs);
  }
  for (Slot* slot : {&out_, &present_key_, &present_value_}) slot->require(outputs);
}

TensorView GroupQuery::view(const Frame& frame, const Operand& operand) const {
  if (!operand.given) return {};
  if (!operand.held) return frame.input(operand.slot);
  TensorView view = operand.constant;
  view.data = const_cast<char*>(operand.bytes.data());
  return view;
}

// Checks all before anything is written.
GroupQuery::Call GroupQuery::prepared(Frame& frame) const {
  Call c;
  c.query = view(frame, query_);
  if (c.query.shape.size() != 3) refuse("query is " + text_of(c.query.shape) + ", expected 3 axes");
  c.batch = c.query.shape[0];
  c.rows = c.query.shape[1];
  const int64_t width = c.query.shape[2], heads = key_.given ? heads_ : heads_ + 2 * kv_heads_;
  c.dim = width / heads;
  if (c.dim < 1 || width % heads != 0) {
    refuse("rows of " + std::to_string(width) + " elements do not make " + std::to_string(heads) +
           " heads");
  }
  c.query_stride = width;
  if (key_.given) {
    c.key = view(frame, key_);
    c.value = view(frame, value_);
    c.key_stride = kv_heads_ * c.dim;
    expect("key", c.key, {c.batch, c.rows, c.key_stride});
    expect("value", c.value, c.key.shape);
  } else {
    c.key = c.value = c.query;
    c.key_stride = width;
    const int64_t size = bytes_of(type_);
    c.key.data = c.query.as<char>() + heads_ * c.dim * size;
    c.value.data = c.query.as<char>() + (heads_ + kv_heads_) * c.dim * size;
  }
  if (past_key_.given) {
    c.past_key = view(frame, past_key_);
    c.past_value = view(frame, past_value_);
    c.past = c.past_key.shape.size() == 4 ? c.past_key.shape[2] : 0;
    expect("past_key", c.past_key, {c.batch, kv_heads_, c.past, c.dim});
    expect("past_value", c.past_value, c.past_key.shape);
  }
  const TensorView total = view(frame, total_), lengths = view(frame, lengths_);
  if (total.type != kInt32 || total.count() != 1) refuse("total_sequence_length is no i32");
  if (lengths.type != kInt32 || lengths.count() != c.batch) {
    refuse("seqlens_k has " + std::to_string(lengths.count()) + " elements, expected " +
           std::to_string(c.batch) + " of i32");
  }
  const int64_t all = *total.as<int32_t>();
  c.slots = std::max(all, c.past);
  for (int64_t b = 0; b < c.batch; ++b) {
    // A first prompt may be padded on its right; later a sequence may be longer than the total, as
    // long as there are slots.
    const int64_t given = lengths.as<int32_t>()[b], most = c.rows == all ? all : c.slots;
    const int64_t length = c.rows == all ? all : given + 1;
    const int64_t kept = length - c.rows;
    if (given < -1 || given >= std::max<int64_t>(most, 1) || kept < 0 || kept > c.past ||
        length > c.slots) {
      refuse("seqlens_k[" + std::to_string(b) + "] is " + std::to_string(given) + " with " +
             std::to_string(c.rows) + " new rows, " + std::to_string(c.past) +
             " slots before them and total_sequence_length " + std::to_string(all));
    }
    c.kept.push_back(static_cast<int32_t>(kept));
  }
  if (rotary_) {
    const TensorView given = view(frame, positions_);
    if (positions_.given && (given.type != kInt64 || given.count() != c.batch * c.rows)) {
      refuse("position_ids is " + text_of(given.shape) + ", expected i64 of " +
             text_of({c.batch, c.rows}));
    }
    for (int64_t i = 0; i < c.batch * c.rows; ++i) {
      const int64_t at =
          positions_.given ? given.as<int64_t>()[i] : c.kept[i / c.rows] + i % c.rows;
      if (at < 0 || at >= table_rows_) {
        refuse("a row is at position " + std::to_string(at) + ", cos_cache has " +
               std::to_string(table_rows_));
      }
      c.position.push_back(static_cast<int32_t>(at));
    }
  }
  const std::vector<int64_t> present = {c.batch, kv_heads_, c.slots, c.dim};
  c.out = frame.output(out_, {c.batch, c.rows, heads_ * c.dim});
  c.present_key = frame.output(present_key_, present);
  c.present_value = frame.output(present_value_, present);
  const auto shared = [&](const TensorView& before, const TensorView& after) {
    const bool same = c.past > 0 && c.batch > 0 && before.data == after.data;
    if (same && c.past != c.slots) {
      refuse("past and present are one buffer of " + std::to_string(c.past) +
             " slots, total_sequence_length is " + std::to_string(all));
    }
    return same;
  };
  c.shared_keys = shared(c.past_key, c.present_key);
  c.shared_values = shared(c.past_value, c.present_value);
  return c;
}

void GroupQuery::run(Frame& frame) const {
  const Call call = prepared(frame);
  if (call.batch == 0) return;
  const int64_t work = call.batch * call.rows * heads_ * call.slots * call.dim;
  const int64_t threads = std::min(threads_, work / kWorthAThread);
  // Whole sequences, or some of the heads of each.
  const int64_t pieces =
      std::max<int64_t>(1, std::min(kv_heads_, (threads + call.batch - 1) / call.batch));
  const auto piece = [&](int64_t i) {
    const int64_t p = i % pieces;
    attend(call, i / pieces, p * kv_heads_ / pieces, (p + 1) * kv_heads_ / pieces);
  };
  if (threads <= 1) {
    for (int64_t b = 0; b < call.batch; ++b) piece(b);
  } else {
    parallel(api_, frame.context, call.batch * pieces, piece);
  }
}

// Heads [begin, end) of the keys and values of one sequence, and those of the query that read them.
void GroupQuery::attend(const Call& c, int64_t sequence, int64_t begin, int64_t end) const {
  const int64_t size = bytes_of(type_), n = end - begin, group = heads_ / kv_heads_;
  const int64_t row = c.dim * size, kept = c.kept[sequence], filled = kept + c.rows;
  const auto part = [&](const TensorView& tensor, int64_t slots) {
    return tensor.as<char>() + (sequence * kv_heads_ + begin) * slots * row;
  };
  for (const auto& [past, present] :
       {std::pair(&c.past_key, &c.present_key), std::pair(&c.past_value, &c.present_value)}) {
    if (past == &c.past_key ? c.shared_keys : c.shared_values) continue;
    for (int64_t h = 0; h < n; ++h) {
      char* to = part(*present, c.slots) + h * c.slots * row;
      if (kept > 0) {
        std::memcpy(to, part(*past, c.past) + h * c.past * row, static_cast<size_t>(kept * row));
      }
      std::memset(to + filled * row, 0, static_cast<size_t>((c.slots - filled) * row));
    }
  }

  const auto query_bytes = static_cast<size_t>(c.rows * n * group * row);
  const auto key_bytes = static_cast<size_t>(c.rows * n * row);
  const auto row_bytes = static_cast<size_t>(c.rows) * sizeof(int32_t);
  const auto rows_at = [&](const TensorView& tensor, int64_t stride, int64_t head) {
    return tensor.as<char>() + (sequence * c.rows * stride + head * c.dim) * size;
  };
  char* query = rows_at(c.query, c.query_stride, begin * group);
  char* key = rows_at(c.key, c.key_stride, begin);
  char* value = rows_at(c.value, c.key_stride, begin);
  Tensor q(query, type_, {c.rows, n * group, c.dim}, c.query_stride);
  Tensor k(key, type_, {c.rows, n, c.dim}, c.key_stride);
  Tensor v(value, type_, {c.rows, n, c.dim}, c.key_stride);
  Scratch::Block block(
      scratch_, (rotary_ ? rounded(query_bytes) + rounded(key_bytes) : 0) + 2 * rounded(row_bytes));
  auto* slots = static_cast<int32_t*>(block.take(row_bytes));
  auto* seen = static_cast<int32_t*>(block.take(row_bytes));
  for (int64_t r = 0; r < c.rows; ++r) {
    slots[r] = static_cast<int32_t>(kept + r);
    seen[r] = slots[r] + 1;
  }
  Tensor slot(slots, kInt32, {c.rows}), visible(seen, kInt32, {c.rows});
  if (rotary_) {
    Tensor position(const_cast<int32_t*>(c.position.data()) + sequence * c.rows, kInt32, {c.rows});
    Tensor table(const_cast<float*>(table_.data()), kFloat, {table_rows_, table_pairs_, 2});
    const auto turn = [&](Tensor* rows, int64_t heads, size_t bytes) {
      Tensor turned(block.take(bytes), type_, {c.rows, heads, c.dim});
      exn_rope_params params = {};
      params.struct_size = sizeof params;
      params.input = rows->get();
      params.position = position.get();
      params.table = table.get();
      params.out = turned.get();
      params.style = interleaved_ ? EXN_ROPE_INTERLEAVED : EXN_ROPE_HALF;
      check(exn_rope(&params, nullptr, 0, nullptr));
      *rows = turned;
    };
    turn(&q, n * group, query_bytes);
    turn(&k, n, key_bytes);
  }
  Tensor keys(part(c.present_key, c.slots), type_, {n, c.slots, c.dim});
  Tensor values(part(c.present_value, c.slots), type_, {n, c.slots, c.dim});
  exn_kv_append_params append = {};
  append.struct_size = sizeof append;
  append.cache = {keys.get(), values.get(), nullptr, EXN_KV_HEAD_MAJOR, 0};
  append.k = k.get();
  append.v = v.get();
  append.slot = slot.get();
  check(exn_kv_append(&append, nullptr, 0, nullptr));

  Tensor out(rows_at(c.out, heads_ * c.dim, begin * group), type_, {c.rows, n * group, c.dim},
             heads_ * c.dim);
  exn_attention_params params = {};
  params.struct_size = sizeof params;
  params.query = q.get();
  params.cache = append.cache;
  params.visible = visible.get();
  params.out = out.get();
  params.scale = scale_ > 0 ? scale_ : 1.0f / std::sqrt(static_cast<float>(c.dim));
  params.softcap = softcap_;
  size_t bytes = 0;
  check(exn_attention_workspace_size(&params, &bytes));
  Scratch::Block workspace(scratch_, bytes);
  check(exn_attention(&params, workspace.take(bytes), bytes, nullptr));
}

}  // namespace exn::ort
