// SPDX-License-Identifier: Apache-2.0
// Every mechanical way in which a call can be wrong, made from the descriptions of the ops: each
// argument of each op is spoilt alone, in each form that the op's choices give it. All three
// functions must refuse the call with a sentence that names the argument and the values that
// disagree, and write nothing. What only the meaning of an op forbids is in its folder's test.cpp.
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "samples.h"

namespace exn::test {
namespace {

// ---- sentences ----------------------------------------------------------------------------------

// Whether `text` has `word` with neither a letter nor a digit beside it, so that `k` is not found in
// `kernel`, nor 1 in 10.
bool has_word(const std::string& text, const std::string& word) {
  const auto joins = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || !joins(text[at - 1]) || !joins(word.front());
    if (begins && (end == text.size() || !joins(text[end]) || !joins(word.back()))) return true;
  }
  return false;
}

std::string number(int64_t value) { return std::to_string(value); }

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::string name_of(const DLDevice& device) {
  return (device.device_type == kDLCPU ? "cpu:" : "cuda:") + number(int64_t{device.device_id});
}

// ---- calls that are spoilt ----------------------------------------------------------------------

// The sample, and it with each of its choices made otherwise, one at a time, unless that is another
// sample of the op.
std::vector<Sample> forms_of(const Sample& sample) {
  std::vector<Sample> forms = {sample};
  const SampleCall call = sample.make();
  std::set<std::string> seen;
  for (const NamedChoice& choice : call.maker().choices()) {
    if (!seen.insert(choice.name).second) continue;
    for (int32_t value = choice.first; value <= choice.last; ++value) {
      const auto has_it = [&](const Sample& other) {
        const auto named = other.choices.find(choice.name);
        return other.op == sample.op && named != other.choices.end() && named->second == value;
      };
      if (value == choice.chosen || std::any_of(samples().begin(), samples().end(), has_it))
        continue;
      forms.push_back(sample);
      forms.back().name += ", " + choice.name + " " + number(int64_t{value});
      forms.back().choices[choice.name] = value;
    }
  }
  // Of 32 elements a block, too, which blocks of 256 do not fit.
  if (const auto blocks = sample.choices.find("blocks");
      blocks != sample.choices.end() && blocks->second > 1 &&
      blocks->second <= static_cast<int64_t>(block_formats().size())) {
    forms.push_back(sample);
    forms.back().name += ", small blocks";
    forms.back().choices["blocks"] = 1;
  }
  return forms;
}

class Spoilt {
 public:
  Spoilt(const Target& target, const Sample& sample)
      : op_(sample.op), placed_(target, sample.make()), workspace_(target, kWorkspace) {
    placed_.reset();
    for (int i = 0; i < maker().scalar_count(); ++i)
      scalar_names_.push_back(in_its_struct(maker().scalars()[i].name));
    before_.clear();
    for (int i = 0; i < maker().field_count(); ++i)
      tensor_names_.push_back(in_its_struct(maker().fields()[i].name));
  }

  PlacedCall& placed() { return placed_; }
  Maker& maker() { return placed_.call().maker(); }
  const OpUnderTest& op() const { return *op_; }
  exn_status supported() { return op_->supported(placed_.call().params()); }
  const std::string& name_of(const ScalarField& s) {
    return scalar_names_[static_cast<size_t>(&s - maker().scalars())];
  }
  // The field that the argument was made for.
  const TensorField& field(const Argument& a) {
    const TensorField* fields = maker().fields();
    return *std::find_if(fields, fields + maker().field_count(),
                         [&](const TensorField& f) { return f.place == a.fields[0]; });
  }

  // All three functions refuse the call, with all of `words` and one of `names`.
  void refused(const Words& words, const std::set<std::string>& names = {},
               exn_status status = EXN_INVALID_ARGUMENT) {
    void* const params = placed_.call().params();
    if (!expect(op_->supported(params), status, words, names)) return;  // a run might not end well
    size_t bytes = 12345;
    expect(op_->workspace_size(params, &bytes), status, words, names);
    EXPECT_EQ(bytes, 12345u) << "a refused size query wrote a size";
    expect(without_allocations(
               op_->name, [&] { return op_->run(params, workspace_.data(), kWorkspace, nullptr); }),
           status, words, names);
    expect_nothing_written();
  }

  // The run alone refuses what only the contents of a tensor tell.
  void run_refused(const Words& words, const Argument* changed) {
    EXPECT_EQ(supported(), EXN_OK) << exn_last_error();
    size_t bytes = 0;
    EXPECT_EQ(op_->workspace_size(placed_.call().params(), &bytes), EXN_OK) << exn_last_error();
    DeviceMemory workspace(kCpu, bytes + 1);
    expect(op_->run(placed_.call().params(), workspace.data(), bytes, nullptr),
           EXN_INVALID_ARGUMENT, words, {});
    expect_nothing_written(changed);
  }

  const std::string& name_of(const TensorField& f) {
    return tensor_names_[static_cast<size_t>(&f - maker().fields())];
  }
  // Those that have something in common.
  template <class Has>
  std::set<std::string> names(Has&& has) {
    std::set<std::string> found;
    for (int i = 0; i < maker().field_count(); ++i) {
      const TensorField& f = maker().fields()[i];
      if (f.tensor != nullptr && has(f)) found.insert(name_of(f));
    }
    return found;
  }

 private:
  static constexpr size_t kWorkspace = size_t{1} << 20;

  bool expect(exn_status got, exn_status status, const Words& words,
              const std::set<std::string>& names) {
    EXPECT_EQ(got, status) << "accepted";
    if (got != status) return false;
    const std::string error = exn_last_error();
    for (const std::string& word : words)
      EXPECT_TRUE(has_word(error, word)) << "'" << word << "' in: " << error;
    const auto named = [&](const std::string& name) { return has_word(error, name); };
    EXPECT_TRUE(names.empty() || std::any_of(names.begin(), names.end(), named))
        << "none of those concerned is named in: " << error;
    return true;
  }

  void expect_nothing_written(const Argument* changed = nullptr) {
    for (auto& a : placed_.arguments()) {
      EXPECT_TRUE(a.get() == changed || placed_.placed(a.get())->unchanged())
          << a->name << " was written by a call that was refused";
    }
  }

  // As in messages: the first of the structs of an array is [0].
  std::string in_its_struct(std::string name) {
    const int index = before_[name]++;
    if (const size_t at = name.find("[]"); at != std::string::npos)
      name.insert(at + 1, number(int64_t{index}));
    return name;
  }

  const OpUnderTest* op_;
  PlacedCall placed_;
  DeviceMemory workspace_;
  std::map<std::string, int> before_;
  std::vector<std::string> scalar_names_, tensor_names_;
};

class EveryOp : public ::testing::TestWithParam<Sample> {
 protected:
  void SetUp() override {
    if (targets().empty() || !targets().front().cpu()) GTEST_SKIP() << "no CPU target";
  }

  // `spoil(call)` for each form of the op.
  template <class Spoil>
  void each_form(Spoil&& spoil) {
    for (const Sample& form : forms_of(GetParam())) {
      SCOPED_TRACE(form.name);
      Spoilt call(targets().front(), form);
      ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
      spoil(call);
      EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();  // all was put back
      if (HasFailure()) return;
    }
  }

  // `spoil(call, argument)` for each of its arguments, whose DLTensor is put back afterwards. What is
  // two arguments at once is spoilt in the forms where it is not.
  template <class Spoil>
  void each_argument(Spoil&& spoil) {
    each_form([&](Spoilt& call) {
      for (auto& a : call.placed().arguments()) {
        if (a->fields.size() > 1) continue;
        SCOPED_TRACE(a->name);
        const DLTensor good = a->dl;
        const std::vector<int64_t> shape(good.shape, good.shape + good.ndim);
        spoil(call, *a);
        a->dl = good;
        std::copy(shape.begin(), shape.end(), good.shape);
        if (HasFailure()) return;
      }
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, ::testing::ValuesIn(samples_of_this_run()),
                         [](const auto& one) { return one.param.name; });

// ---- structs ------------------------------------------------------------------------------------

TEST_P(EveryOp, RefusesStructsThatNoVersionHas) {
  each_form([](Spoilt& call) {
    const size_t known = call.op().params_bytes;
    std::vector<uint64_t> longer(known / sizeof(uint64_t) + 1 + 1024);  // up to 8 KiB
    unsigned char* const params = call.placed().call().params();
    std::memcpy(longer.data(), params, known);
    call.placed().call().set_params(longer.data());
    for (const uint64_t size : {uint64_t{0}, uint64_t{8}, uint64_t{5000}, ~uint64_t{0}}) {
      longer[0] = size;
      call.refused({"struct_size", std::to_string(size)});
    }
    longer[0] = known + sizeof(uint64_t);
    EXPECT_EQ(call.supported(), EXN_OK) << exn_last_error();
    longer[known / sizeof(uint64_t)] = 1;
    call.refused({"struct_size", std::to_string(longer[0]), std::to_string(known)}, {},
                 EXN_UNSUPPORTED);
    call.placed().call().set_params(nullptr);
    call.refused({"params", "null"});
    call.placed().call().set_params(params);
    EXPECT_EQ(call.op().workspace_size(params, nullptr), EXN_INVALID_ARGUMENT);
    expect_words({"bytes", "null"});
  });
}

// ---- tensors ------------------------------------------------------------------------------------

TEST_P(EveryOp, NeedsWhatIsNotOptionalAndTakesNothingElse) {
  each_form([](Spoilt& call) {
    const DLTensor* some = nullptr;
    for (auto& a : call.placed().arguments()) {
      some = &a->dl;
      for (const DLTensor** field : a->fields) {
        const TensorField* f = call.maker().fields();
        while (f->place != field) ++f;
        if ((f->flags & kOptional) != 0) continue;
        SCOPED_TRACE(f->name);
        *field = nullptr;
        call.refused({call.name_of(*f)});
        const std::string error = exn_last_error();
        EXPECT_TRUE(has_word(error, "null") || has_word(error, "not")) << error;
        *field = &a->dl;
      }
    }
    for (int i = 0; i < call.maker().field_count(); ++i) {
      const TensorField& f = call.maker().fields()[i];
      if (!f.absent) continue;
      SCOPED_TRACE(f.name);
      *f.place = some;
      // Of a struct in an array which one it is in is said before.
      const char* const in_struct = std::strstr(f.name, "].");
      call.refused({in_struct == nullptr ? f.name : in_struct + 2});
      *f.place = nullptr;
    }
  });
}

TEST_P(EveryOp, RefusesOtherTypes) {
  each_argument([](Spoilt& call, Argument& a) {
    const TensorField& f = call.field(a);
    const DLDataType good = a.dl.dtype;
    Words takes = {a.name};
    for (int i = 0; i < 7; ++i) {
      const Type type = static_cast<Type>(i);
      if ((f.type.allowed >> i & 1) != 0) takes.push_back(exn::test::name_of(type));
    }
    const auto with = [&](const std::string& word) {
      Words words = takes;
      words.push_back(word);
      return words;
    };
    for (const DLDataType& none : {DLDataType{kDLInt, 16, 1}, DLDataType{kDLUInt, 32, 1},
                                   DLDataType{kDLFloat, 8, 1}, DLDataType{9, 32, 1}}) {
      a.dl.dtype = none;
      call.refused(with(number(int64_t{none.bits})));
    }
    a.dl.dtype = {good.code, good.bits, 2};
    call.refused(with("lanes 2"));
    for (int i = 0; i < 7; ++i) {
      const Type type = static_cast<Type>(i);
      a.dl.dtype = dl_type(type);
      if ((f.type.allowed >> i & 1) == 0) {
        call.refused(with(exn::test::name_of(type)));
      } else if (type != a.type && call.maker().uses_of_type(f.type.symbol) > 1) {
        const auto alike = [&](const TensorField& g) { return g.type.symbol == f.type.symbol; };
        call.refused({exn::test::name_of(type), exn::test::name_of(a.type)}, call.names(alike));
      }
    }
    a.dl.dtype = good;
  });
}

TEST_P(EveryOp, RefusesOtherShapes) {
  each_argument([](Spoilt& call, Argument& a) {
    const DLTensor good = a.dl;
    std::vector<int64_t> shape(a.shape);
    shape.push_back(1);
    a.dl.shape = shape.data();
    a.dl.strides = nullptr;
    if ((call.field(a).flags & kAnyRank) == 0) {
      for (const int32_t rank : {good.ndim - 1, good.ndim + 1}) {
        a.dl.ndim = rank;
        call.refused({a.name, "rank " + number(int64_t{rank})});
      }
      a.dl.ndim = good.ndim;
    }
    for (int32_t axis = 0; axis < good.ndim; ++axis) {
      shape[static_cast<size_t>(axis)] = -3;
      call.refused({a.name, "-3"});
      shape[static_cast<size_t>(axis)] = good.shape[axis];
    }
    if (good.ndim == 0) return;
    a.dl.shape = nullptr;
    call.refused({a.name, "shape", "null"});
  });
}

// Of a size or number from which others follow, a sentence may tell those: it names an argument, or
// the cache that it is of, and two values.
bool says_what_follows(Spoilt& call, const std::string& error) {
  const auto any = [](const TensorField&) { return true; };
  std::set<std::string> all = call.names(any);
  for (int i = 0; i < call.maker().scalar_count(); ++i)
    all.insert(call.name_of(call.maker().scalars()[i]));
  const bool is_named = std::any_of(all.begin(), all.end(), [&](const std::string& name) {
    return has_word(error, name) || has_word(error, name.substr(0, name.rfind('.')));
  });
  std::set<std::string> values;
  for (size_t at = error.find_first_of("0123456789"); at != std::string::npos;) {
    const size_t end = std::min(error.find_first_not_of("0123456789", at), error.size());
    values.insert(error.substr(at, end - at));
    at = error.find_first_of("0123456789", end);
  }
  return is_named && values.size() > 1;
}

// One more and one less in an axis whose size others have, or that must be what it is.
TEST_P(EveryOp, RefusesSizesThatDisagree) {
  each_argument([](Spoilt& call, Argument& a) {
    const TensorField& f = call.field(a);
    a.dl.strides = nullptr;  // those of a compact tensor of any shape
    for (int axis = 0; axis < f.rank; ++axis) {
      const int symbol = f.dims[axis].symbol;
      if (call.maker().uses_of_size(symbol) < 2) continue;
      SCOPED_TRACE("axis " + number(int64_t{axis}));
      const auto has = [&](const TensorField& g) {
        return std::any_of(g.dims, g.dims + g.rank,
                           [&](const Dim& d) { return d.symbol == symbol; });
      };
      const int64_t good = a.dl.shape[axis];
      for (const int64_t wrong : {good - 1, good + 1}) {
        a.dl.shape[axis] = wrong;
        call.refused({});
        const std::string error = exn_last_error();
        const auto named = [&](const std::string& name) { return has_word(error, name); };
        const std::set<std::string> concerned = call.names(has);
        const bool says_sizes = has_word(error, number(wrong)) && has_word(error, number(good)) &&
                                std::any_of(concerned.begin(), concerned.end(), named);
        EXPECT_TRUE(says_sizes || says_what_follows(call, error)) << error;
      }
      a.dl.shape[axis] = good;
    }
  });
}

TEST_P(EveryOp, RefusesOtherStrides) {
  each_argument([](Spoilt& call, Argument& a) {
    if (a.empty() || a.shape.empty()) return;
    std::vector<int64_t> strides(a.shape.size(), 1);
    for (size_t k = strides.size(); k-- > 1;) strides[k - 1] = strides[k] * a.shape[k];
    a.dl.strides = strides.data();
    for (size_t axis = 0; axis < strides.size(); ++axis) {
      if (a.shape[axis] < 2) continue;
      const int64_t good = strides[axis];
      std::vector<int64_t> wrong = {-good};
      if (!a.strided || axis > 0) wrong.push_back(good + 1);
      if (a.written && good > 1) wrong.push_back(good - 1);
      for (const int64_t stride : wrong) {
        SCOPED_TRACE("stride " + number(stride) + " in axis " + number(int64_t(axis)));
        strides[axis] = stride;
        call.refused({a.name, number(stride)});
      }
      strides[axis] = good;
    }
  });
}

TEST_P(EveryOp, RefusesMemoryThatIsNone) {
  each_argument([](Spoilt& call, Argument& a) {
    if (a.empty()) return;
    const DLTensor good = a.dl;
    const auto element = static_cast<uint64_t>(size_of(a.type));
    a.dl.data = nullptr;
    a.dl.byte_offset = 0;
    call.refused({a.name, "null"});
    a.dl = good;
    for (uint64_t by = 1; by < element; by *= 2) {
      a.dl.byte_offset = good.byte_offset + by;
      call.refused({a.name, "aligned", std::to_string(element)});
    }
    a.dl.byte_offset = ~uint64_t{63};
    call.refused({a.name, "byte_offset", std::to_string(a.dl.byte_offset), "last address"});
    a.dl.data = reinterpret_cast<void*>(uintptr_t{0} - element);
    a.dl.byte_offset = 0;
    call.refused({a.name, "bytes", "last address"});
    a.dl = good;
  });
}

// The first that is looked at decides on which device the others must be: where it is another one,
// the sentence names the second.
TEST_P(EveryOp, RefusesOtherDevices) {
  each_form([](Spoilt& call) {
    int firsts = 0;
    const auto& arguments = call.placed().arguments();
    for (auto& a : arguments) {
      if (a->fields.size() > 1) continue;
      SCOPED_TRACE(a->name);
      const DLTensor good = a->dl;
      a->dl.device.device_type = static_cast<DLDeviceType>(77);
      call.refused({a->name, "77"});
      for (const DLDevice& other : {DLDevice{kDLCPU, 1}, DLDevice{kDLCUDA, 0}}) {
        a->dl.device = other;
        if (arguments.size() == 1 && call.supported() != EXN_INVALID_ARGUMENT) continue;
        call.refused(arguments.size() == 1 ? Words{} : Words{name_of(other), "cpu:0"});
        if (!has_word(exn_last_error(), a->name)) ++firsts;
      }
      a->dl = good;
    }
    EXPECT_LE(firsts, 2) << "more than one argument is not named";
  });
}

// An output over any other argument, from its begin and from its second element on, unless it is
// the one that it may be.
TEST_P(EveryOp, RefusesOverlaps) {
  each_form([](Spoilt& call) {
    // Each in memory of its own that is not there, far from the others'.
    std::vector<DLTensor> good;
    for (auto& a : call.placed().arguments()) {
      good.push_back(a->dl);
      a->dl.data = reinterpret_cast<void*>(good.size() << 52);
      a->dl.byte_offset = 0;
    }
    ASSERT_EQ(call.supported(), EXN_OK) << exn_last_error();
    const TensorField* fields = call.maker().fields();
    for (auto& out : call.placed().arguments()) {
      for (auto& other : call.placed().arguments()) {
        if (out->fields.size() + other->fields.size() > 2) continue;
        if (out == other || !out->written || out->empty() || other->empty()) continue;
        SCOPED_TRACE(out->name + " over " + other->name);
        const TensorField &of_out = call.field(*out), &of_other = call.field(*other);
        const bool may_be_equal =
            (of_out.may_equal >= 0 && &fields[of_out.may_equal] == &of_other) ||
            (of_other.may_equal >= 0 && &fields[of_other.may_equal] == &of_out);
        void* const data = out->dl.data;
        out->dl.data = other->dl.data;
        const int64_t step = std::max(size_of(out->type), size_of(other->type));
        const int64_t bytes = static_cast<int64_t>(other->initial.bytes.size());
        for (const int64_t by : {int64_t{0}, step}) {
          if ((by == 0 && may_be_equal) || by >= bytes) continue;
          out->dl.byte_offset = static_cast<uint64_t>(by);
          call.refused({out->name});
          const std::string error = exn_last_error();
          const bool one_of_two = by == 0 && has_word(error, "exactly");  // of K and V of a cache
          EXPECT_TRUE(one_of_two || (has_word(error, "overlaps") && has_word(error, other->name)))
              << error;
        }
        out->dl.data = data;
        out->dl.byte_offset = 0;
        if (HasFailure()) return;
      }
    }
    size_t i = 0;
    for (auto& a : call.placed().arguments()) a->dl = good[i++];
  });
}

// ---- numbers ------------------------------------------------------------------------------------

// A field of a struct in an array, of which a sentence may name the struct first.
Words in_words(const std::string& name) {
  const size_t dot = name.find("].");
  if (dot == std::string::npos) return {name};
  return {name.substr(0, dot + 1), name.substr(name.rfind('.') + 1)};
}

template <class Integer>
void refuse_integers(Spoilt& call, const ScalarField& s) {
  Integer* const place = static_cast<Integer*>(s.place);
  const Integer good = *place;
  constexpr int64_t kLeast = std::numeric_limits<Integer>::min(),
                    kMost = std::numeric_limits<Integer>::max();
  std::set<int64_t> wrong;
  if (s.least > kLeast) wrong.insert({kLeast, s.least - 1});
  if (s.most < kMost) wrong.insert({s.most + 1, kMost});
  // Of two numbers that do not go together, or of those that make a size, either may be told.
  const bool is_one_of_two = (s.least == s.most && s.least != 0) ||
                             call.name_of(s) == "max_steps" || call.name_of(s) == "prompt";
  for (const int64_t value : wrong) {
    *place = static_cast<Integer>(value);
    call.refused({});
    const std::string error = exn_last_error();
    Words words = in_words(call.name_of(s));
    words.push_back(number(value));
    const bool says_it = std::all_of(
        words.begin(), words.end(), [&](const std::string& word) { return has_word(error, word); });
    EXPECT_TRUE(says_it || (is_one_of_two && says_what_follows(call, error))) << error;
  }
  *place = good;
}

std::string tags_of_blocks() {
  std::set<int32_t> tags;
  for (const BlockFormat& format : block_formats()) tags.insert(format.tag);
  std::string text;
  size_t left = tags.size();
  for (const int32_t tag : tags) {
    text += number(int64_t{tag});
    --left;
    if (left > 0) text += left == 1 ? " or " : ", ";
  }
  return text;
}

// A tag that is none, and that of other blocks than a row's bytes are.
void refuse_tags(Spoilt& call, const ScalarField& s) {
  int32_t* const place = static_cast<int32_t*>(s.place);
  const int32_t good = *place;
  std::set<int32_t> tags = {EXN_BLOCKS_NONE};
  for (const BlockFormat& format : block_formats()) tags.insert(format.tag);
  for (const int32_t wrong : {-1, 1, 4, 5, 9, 10, 11, 15, INT32_MAX}) {
    if (tags.count(wrong) != 0) continue;
    *place = wrong;
    call.refused({call.name_of(s), number(int64_t{wrong}), tags_of_blocks()});
  }
  *place = good;
  // up_blocks is the tag of up_weight, and weight_blocks that of weight.
  const std::string stem = call.name_of(s).substr(0, call.name_of(s).rfind("_blocks"));
  const std::set<std::string> names = call.names([&](const TensorField& f) {
    return f.blocks != nullptr && (call.name_of(f) == stem || call.name_of(f) == stem + "_weight");
  });
  if (names.empty()) return;  // the weight is not given, or of no blocks
  const TensorField* f = call.maker().fields();
  while (call.name_of(*f) != *names.begin()) ++f;
  const int64_t bytes = f->tensor->shape[f->rank - 1];
  const int64_t columns = bytes / s.blocks->bytes * s.blocks->elements;
  // After the weight of a layer, the layer is not named again.
  const std::string field = call.name_of(s).substr(call.name_of(s).rfind('.') + 1);
  *place = EXN_BLOCKS_NONE;
  call.refused({"u8", "f32"}, names);
  for (const BlockFormat& format : block_formats()) {
    const bool fits = columns % format.elements == 0;
    if (fits && columns / format.elements * format.bytes == bytes) continue;
    *place = format.tag;
    call.refused({fits ? field : call.name_of(s), number(int64_t{format.tag}), number(columns),
                  number(fits ? bytes : format.elements)},
                 fits ? names : std::set<std::string>{});
  }
  *place = good;
}

template <class Real>
void refuse_reals(Spoilt& call, const ScalarField& s) {
  Real* const place = static_cast<Real*>(s.place);
  const Real good = *place;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<double> wrong = {std::numeric_limits<double>::quiet_NaN()};
  const char* expected = "a finite value";
  switch (s.domain) {
    case Domain::kAny:
      return;
    case Domain::kPositive:
      wrong.insert(wrong.end(), {0, -0.0, -1, kInfinity, -kInfinity});
      expected = "> 0";
      break;
    case Domain::kNotNegative:
      wrong.insert(wrong.end(), {-1, -1e-30, kInfinity, -kInfinity});
      expected = ">= 0";
      break;
    case Domain::kShare:
      wrong.insert(wrong.end(), {-0.25, 1.25, kInfinity, -kInfinity});
      expected = "0..1";
      break;
    case Domain::kAtLeastOne:
      wrong.insert(wrong.end(), {0.75, 0, -1, kInfinity});
      expected = "1";
      break;
    case Domain::kZero:
      wrong.insert(wrong.end(), {1, -1});
      expected = "";
      break;
    case Domain::kNotNan:
      expected = "a number";
      break;
    case Domain::kFinite:
      wrong.insert(wrong.end(), {kInfinity, -kInfinity});
      break;
  }
  for (const double value : wrong) {
    *place = static_cast<Real>(value);
    Words words = {call.name_of(s)};
    if (*expected != 0 && !std::isnan(value)) words.push_back(expected);
    if (std::isfinite(value)) words.push_back(number(value));
    call.refused(words);
  }
  *place = good;
}

TEST_P(EveryOp, RefusesNumbersOutOfRange) {
  each_form([](Spoilt& call) {
    for (int i = 0; i < call.maker().scalar_count(); ++i) {
      const ScalarField& s = call.maker().scalars()[i];
      SCOPED_TRACE(call.name_of(s));
      switch (s.kind) {
        case ScalarField::kInt32:
          s.is_tag ? refuse_tags(call, s) : refuse_integers<int32_t>(call, s);
          break;
        case ScalarField::kInt64:
          refuse_integers<int64_t>(call, s);
          break;
        case ScalarField::kFloat:
          refuse_reals<float>(call, s);
          break;
        case ScalarField::kDouble:
          refuse_reals<double>(call, s);
          break;
        case ScalarField::kArray:
          if (s.in_array > 0) {
            const void** const place = static_cast<const void**>(s.place);
            const void* const good = *place;
            *place = nullptr;
            call.refused({call.name_of(s), "null"});
            *place = good;
          }
      }
      if (HasFailure()) return;
    }
  });
}

// Entries that name nothing, of which the CPU says so: the first and the last.
TEST_P(EveryOp, RefusesEntriesOutOfRange) {
  each_argument([](Spoilt& call, Argument& a) {
    const TensorField& f = call.field(a);
    if (!f.has_ids || !f.ids.strict || a.empty()) return;
    char* const data = static_cast<char*>(a.dl.data) + a.dl.byte_offset;
    const auto element = static_cast<size_t>(size_of(a.type));
    std::set<int64_t> wrong;
    if (f.ids.least > INT32_MIN) wrong.insert({f.ids.least - 1, INT32_MIN});
    if (f.ids.most < INT32_MAX) wrong.insert({f.ids.most + 1, INT32_MAX});
    for (const size_t at : {size_t{0}, a.initial.bytes.size() - element}) {
      for (const int64_t value : wrong) {
        int64_t before = 0;
        std::memcpy(&before, data + at, element);
        std::memcpy(data + at, &value, element);
        call.run_refused({a.name, number(value)}, &a);
        std::memcpy(data + at, &before, element);
      }
    }
  });
}

}  // namespace
}  // namespace exn::test
