// SPDX-License-Identifier: Apache-2.0
//
// Reads machine code as cuobjdump prints it.
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "sass.h"
#include "sass_code.h"

namespace exn::gpu {
namespace {

const std::map<std::string, Op>& operations() {
  static const std::map<std::string, Op> table = {{"NOP", Op::kNop},
                                                  {"MEMBAR", Op::kNop},
                                                  {"ERRBAR", Op::kNop},
                                                  {"CGAERRBAR", Op::kNop},
                                                  {"CCTL", Op::kNop},
                                                  {"YIELD", Op::kNop},
                                                  {"MOV", Op::kMove},
                                                  {"UMOV", Op::kMove},
                                                  {"IADD3", Op::kAdd3},
                                                  {"UIADD3", Op::kAdd3},
                                                  {"IMAD", Op::kMad},
                                                  {"UIMAD", Op::kMad},
                                                  {"LEA", Op::kLea},
                                                  {"ULEA", Op::kLea},
                                                  {"LOP3", Op::kLogic},
                                                  {"ULOP3", Op::kLogic},
                                                  {"PLOP3", Op::kLogicOfPredicates},
                                                  {"UPLOP3", Op::kLogicOfPredicates},
                                                  {"SHF", Op::kShift},
                                                  {"USHF", Op::kShift},
                                                  {"PRMT", Op::kPermute},
                                                  {"UPRMT", Op::kPermute},
                                                  {"SEL", Op::kSelect},
                                                  {"USEL", Op::kSelect},
                                                  {"FSEL", Op::kSelect},
                                                  {"ISETP", Op::kCompare},
                                                  {"UISETP", Op::kCompare},
                                                  {"VIADD", Op::kAdd},
                                                  {"VIADDMNMX", Op::kAddMinMax},
                                                  {"VIMNMX", Op::kMinMax},
                                                  {"VIMNMX3", Op::kMinMax3},
                                                  {"VHMNMX", Op::kHalfMinMax3},
                                                  {"IABS", Op::kAbs},
                                                  {"POPC", Op::kPopulation},
                                                  {"BREV", Op::kReverse},
                                                  {"FLO", Op::kFindLeading},
                                                  {"UFLO", Op::kFindLeading},
                                                  {"FADD", Op::kFloatAdd},
                                                  {"FMUL", Op::kFloatMultiply},
                                                  {"FFMA", Op::kFloatFma},
                                                  {"FMNMX", Op::kFloatMinMax},
                                                  {"FSETP", Op::kFloatCompare},
                                                  {"FCHK", Op::kFloatCheck},
                                                  {"MUFU", Op::kFunction},
                                                  {"HADD2", Op::kHalfToFloat},
                                                  {"HFMA2", Op::kHalves},
                                                  {"HMMA", Op::kMatrices},
                                                  {"IMMA", Op::kMatrices},
                                                  {"F2FP", Op::kPack},
                                                  {"F2F", Op::kPack},
                                                  {"F2I", Op::kFloatToInt},
                                                  {"I2F", Op::kIntToFloat},
                                                  {"I2FP", Op::kIntToFloat},
                                                  {"FRND", Op::kRoundFloat},
                                                  {"SHFL", Op::kShuffle},
                                                  {"VOTE", Op::kVote},
                                                  {"VOTEU", Op::kVote},
                                                  {"REDUX", Op::kReduce},
                                                  {"S2R", Op::kSpecial},
                                                  {"S2UR", Op::kSpecial},
                                                  {"P2R", Op::kPredicates},
                                                  {"R2UR", Op::kUniformOf},
                                                  {"CS2R", Op::kZeroPair},
                                                  {"LDC", Op::kConstant},
                                                  {"ULDC", Op::kConstant},
                                                  {"LDG", Op::kLoad},
                                                  {"LD", Op::kLoad},
                                                  {"STG", Op::kStore},
                                                  {"ST", Op::kStore},
                                                  {"LDS", Op::kLoadShared},
                                                  {"STS", Op::kStoreShared},
                                                  {"LDGSTS", Op::kCopyAsync},
                                                  {"LDGDEPBAR", Op::kCommit},
                                                  {"DEPBAR", Op::kWait},
                                                  {"ATOMG", Op::kAtomic},
                                                  {"REDG", Op::kAtomic},
                                                  {"ATOMS", Op::kAtomicShared},
                                                  {"BRA", Op::kBranch},
                                                  {"BRX", Op::kBranchTo},
                                                  {"CALL", Op::kCall},
                                                  {"RET", Op::kReturn},
                                                  {"BSSY", Op::kPush},
                                                  {"BSYNC", Op::kPop},
                                                  {"BREAK", Op::kBreak},
                                                  {"WARPSYNC", Op::kSyncWarp},
                                                  {"BAR", Op::kBarrier},
                                                  {"B2R", Op::kBarrierResult},
                                                  {"EXIT", Op::kExit},
                                                  {"NANOSLEEP", Op::kYield}};
  return table;
}

constexpr const char* kModifiers[] = {
    "128",  "64",  "ADD", "ALL", "ANY",     "BF16",  "BF16_V2", "BFLY", "CAS",  "CEIL",  "DIV",
    "DOWN", "EX",  "EX2", "F32", "F64",     "FLOOR", "FTZ",     "HI",   "INC",  "L",     "LG2",
    "MAX",  "MIN", "NAN", "OR",  "PACK_AB", "RCP",   "RED",     "RM",   "RP",   "RSQ",   "RZ",
    "S16",  "S32", "S64", "S8",  "SAT",     "SH",    "SQRT",    "SX32", "TANH", "TRUNC", "U16",
    "U32",  "U64", "U8",  "UP",  "W",       "WIDE",  "X",       "XOR"};

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// "R12", "UR3", "P0", "RZ"; false if it is something else.
bool parse_register(const std::string& name, Operand* to) {
  const bool uniform = name[0] == 'U';
  const std::string rest = name.substr(uniform ? 1 : 0);
  if (rest.size() < 2 || (rest[0] != 'R' && rest[0] != 'P')) return false;
  const std::string number = rest.substr(1);
  const bool is_register = rest[0] == 'R';
  if (number == (is_register ? "Z" : "T")) {
    to->index = is_register ? (uniform ? kUniformZero : kZero) : kTrue;
  } else if (number.find_first_not_of("0123456789") == std::string::npos) {
    to->index = std::atoi(number.c_str());
  } else {
    return false;
  }
  to->kind = is_register ? (uniform ? Kind::kUniform : Kind::kRegister)
                         : (uniform ? Kind::kUniformPredicate : Kind::kPredicate);
  return true;
}

// What is added up in brackets: registers and an offset.
void parse_address(const std::string& sum, Operand* to) {
  size_t begin = 0;
  while (begin < sum.size()) {
    size_t end = sum.find('+', begin);
    if (end == std::string::npos) end = sum.size();
    std::string term = sum.substr(begin, end - begin);
    begin = end + 1;
    const size_t dot = term.find('.');
    if (dot != std::string::npos) term.resize(dot);
    Operand part;
    if (term.empty()) continue;
    if (parse_register(term, &part)) {
      (part.kind == Kind::kUniform ? to->uniform : to->index) = part.index;
    } else {
      to->value += std::strtoll(term.c_str(), nullptr, 0);
    }
  }
}

Operand parse_operand(std::string text) {
  for (const std::string hint : {".reuse", ".ROW", ".COL"}) {
    for (size_t at; (at = text.find(hint)) != std::string::npos;) text.erase(at, hint.size());
  }
  Operand o;
  o.text = text;
  if (text.rfind("desc[", 0) == 0 || text[0] == '[') {
    o.kind = Kind::kMemory;
    const size_t open = text.rfind('[');
    parse_address(text.substr(open + 1, text.find(']', open) - open - 1), &o);
    return o;
  }
  if (text.rfind("c[", 0) == 0) {
    o.kind = Kind::kConstant;
    o.bank = static_cast<int>(std::strtol(text.c_str() + 2, nullptr, 0));
    const size_t open = text.rfind('[');
    parse_address(text.substr(open + 1, text.size() - open - 2), &o);
    return o;
  }
  std::string rest = text;
  if (rest[0] == '!') o.negate = true, rest.erase(0, 1);
  if (rest[0] == '-' && rest.size() > 1 && (rest[1] == 'R' || rest[1] == 'U' || rest[1] == '|')) {
    o.negate = true;
    rest.erase(0, 1);
  }
  if (rest[0] == '~') o.invert = true, rest.erase(0, 1);
  if (rest[0] == '|') {
    o.absolute = true;
    rest = rest.substr(1, rest.find('|', 1) - 1);
  }
  if (rest[0] == 'R' && rest.size() > 3 && rest.compare(rest.size() - 3, 2, ".B") == 0) {
    o.byte = rest.back() - '0';
    rest.resize(rest.size() - 3);
  }
  const size_t dot = rest.find(".H");
  if (dot != std::string::npos && rest[0] == 'R') {
    o.half = rest[dot + 2] - '0';
    rest.resize(dot);
  }
  const size_t space = rest.find(' ');  // what is added to it follows
  const std::string first = rest.substr(0, space);
  if (parse_register(first, &o)) {
    if (space != std::string::npos) o.value = std::strtoll(rest.c_str() + space, nullptr, 16);
    return o;
  }
  if (first.size() == 2 && first[0] == 'B') {
    o.kind = Kind::kBarrier;
    o.index = first[1] - '0';
    return o;
  }
  const char c = first[0];
  if ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.') {
    o.kind = Kind::kImmediate;
    if (first.find("0x") != std::string::npos) {
      o.value = std::strtoll(first.c_str(), nullptr, 16);
    } else if (first.find("QNAN") != std::string::npos) {
      o.value = c == '-' ? 0xffc00000u : 0x7fc00000u;
    } else {
      o.value = bits_of(std::strtof(first.c_str(), nullptr));
    }
    return o;
  }
  o.kind = Kind::kName;
  return o;
}

int comparison_of(const std::string& name) {
  static const std::map<std::string, int> table = {{"EQ", kEqual},
                                                   {"NE", kLess | kGreater},
                                                   {"LT", kLess},
                                                   {"LE", kLess | kEqual},
                                                   {"GT", kGreater},
                                                   {"GE", kGreater | kEqual},
                                                   {"EQU", kEqual | kUnordered},
                                                   {"NEU", kLess | kGreater | kUnordered},
                                                   {"LTU", kLess | kUnordered},
                                                   {"LEU", kLess | kEqual | kUnordered},
                                                   {"GTU", kGreater | kUnordered},
                                                   {"GEU", kGreater | kEqual | kUnordered},
                                                   {"NUM", kEqual | kLess | kGreater},
                                                   {"NAN", kUnordered}};
  const auto found = table.find(name);
  return found == table.end() ? 0 : found->second;
}

// "@!P0 IADD3.X R6, RZ, ~R3, RZ, P0, !PT"
SassInstruction parse_instruction(const std::string& text) {
  SassInstruction in;
  in.text = text;
  std::string rest = text;
  in.guard.kind = Kind::kPredicate;
  in.guard.index = kTrue;
  if (rest[0] == '@') {
    const size_t space = rest.find(' ');
    in.guard = parse_operand(rest.substr(1, space - 1));
    rest = trimmed(rest.substr(space));
  }
  const size_t space = rest.find(' ');
  std::string name = rest.substr(0, space);
  rest = space == std::string::npos ? "" : trimmed(rest.substr(space));
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  name = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    const auto* const known = std::find(std::begin(kModifiers), std::end(kModifiers), parts[i]);
    if (known != std::end(kModifiers))
      in.modifiers |= uint64_t{1} << (known - std::begin(kModifiers));
  }
  const auto found = operations().find(name);
  if (found != operations().end()) in.op = found->second;
  for (size_t begin = 0; begin < rest.size();) {
    const size_t end = std::min(rest.find(',', begin), rest.size());
    in.operands.push_back(parse_operand(trimmed(rest.substr(begin, end - begin))));
    begin = end + 1;
  }
  if (in.op == Op::kMad && in.has(Mod::kWIDE)) in.op = Op::kMadWide;
  if (in.op == Op::kMad && in.has(Mod::kHI)) in.op = Op::kMadHigh;
  if (in.op == Op::kBranch && in.has(Mod::kDIV)) in.op = Op::kBranchDiverged;
  if (in.op == Op::kBarrier && in.has(Mod::kRED)) in.op = Op::kBarrierVote;
  if (in.op == Op::kSyncWarp && !in.has(Mod::kALL)) in.op = Op::kUnknown;
  if (in.op == Op::kPack && in.has(Mod::kF64)) in.op = Op::kUnknown;
  if ((in.op == Op::kIntToFloat || in.op == Op::kFloatToInt) && in.has(Mod::kF64))
    in.op = Op::kUnknown;
  in.is_float = name[0] == 'F' && name != "FLO" && name != "FCHK";
  if (in.op == Op::kFunction || in.op == Op::kPack || in.op == Op::kFloatToInt) in.is_float = true;
  if (in.op == Op::kFloatCheck) in.is_float = true;
  in.is_unsigned = in.has(Mod::kU32);
  in.bytes = in.has(Mod::k128)                        ? 16
             : in.has(Mod::k64)                       ? 8
             : in.has(Mod::kU16) || in.has(Mod::kS16) ? 2
             : in.has(Mod::kU8) || in.has(Mod::kS8)   ? 1
                                                      : 4;
  for (size_t i = 1; i < parts.size() && in.comparison == 0; ++i)
    in.comparison = comparison_of(parts[i]);
  return in;
}

class Output {
 public:
  explicit Output(const std::string& command) : pipe_(popen(command.c_str(), "r")) {
    if (pipe_ == nullptr) throw std::runtime_error("cannot run " + command);
  }
  ~Output() {
    if (pipe_ != nullptr) pclose(pipe_);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  bool line(std::string* to) {
    char* buffer = nullptr;
    size_t size = 0;
    const ssize_t got = getline(&buffer, &size, pipe_);
    if (got > 0) to->assign(buffer, static_cast<size_t>(got));
    std::free(buffer);
    return got > 0;
  }
  int close() {
    const int status = pclose(pipe_);
    pipe_ = nullptr;
    return status;
  }

 private:
  FILE* pipe_;
};

int64_t number_behind(const std::string& line, const std::string& label) {
  const size_t at = line.find(label);
  return at == std::string::npos ? 0 : std::atoll(line.c_str() + at + label.size());
}

// Where switches of the kernels lead to: the sections of constants of a binary that hold them.
void read_tables(const std::string& path, std::map<std::string, SassKernel>* kernels) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto copy = [&bytes, &path](size_t at, size_t size, void* to) {
    if (at + size > bytes.size()) throw std::runtime_error(path + " is cut");
    std::memcpy(to, bytes.data() + at, size);
  };
  Elf64_Ehdr header;
  copy(0, sizeof header, &header);
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  copy(header.e_shoff, sections.size() * sizeof sections[0], sections.data());
  const std::string prefix = ".nv.constant2.";
  for (const Elf64_Shdr& section : sections) {
    const char* name = bytes.c_str() + sections.at(header.e_shstrndx).sh_offset + section.sh_name;
    if (prefix.compare(0, prefix.size(), name, prefix.size()) != 0) continue;
    const auto kernel = kernels->find(name + prefix.size());
    if (kernel == kernels->end()) continue;
    kernel->second.tables.resize(section.sh_size);
    copy(section.sh_offset, section.sh_size, kernel->second.tables.data());
  }
}

// cuobjdump puts binaries into the folder where it runs.
void read_tables(const std::string& cuobjdump, const std::string& library,
                 std::map<std::string, SassKernel>* kernels) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("exeunt_sass_" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const bool is_on_path = cuobjdump.find('/') == std::string::npos;
  const std::string tool = is_on_path ? cuobjdump : std::filesystem::absolute(cuobjdump).string();
  const std::string command = "cd '" + folder.string() + "' && '" + tool +
                              "' -arch sm_90 -xelf all '" +
                              std::filesystem::absolute(library).string() + "' >/dev/null";
  const bool done = std::system(command.c_str()) == 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    read_tables(entry.path().string(), kernels);
  std::filesystem::remove_all(folder);
  if (!done) throw std::runtime_error("failed: " + command);
}

}  // namespace

SassKernel::SassKernel() = default;
SassKernel::~SassKernel() = default;
SassKernel::SassKernel(SassKernel&&) noexcept = default;
SassKernel& SassKernel::operator=(SassKernel&&) noexcept = default;

std::map<std::string, SassKernel> read_kernels(const std::string& cuobjdump,
                                               const std::string& library) {
  std::map<std::string, SassKernel> kernels;
  const std::string command = "'" + cuobjdump + "' -arch sm_90 -res-usage '" + library + "'";
  Output output(command);
  SassKernel* kernel = nullptr;
  std::string line;
  while (output.line(&line)) {
    const size_t at = line.find("Function ");
    if (at != std::string::npos && line.find(':', at) != std::string::npos) {
      const std::string name = line.substr(at + 9, line.find(':', at) - at - 9);
      kernel = &kernels[name];
      kernel->name = name;
    } else if (kernel != nullptr && line.find("REG:") != std::string::npos) {
      kernel->registers = static_cast<int>(number_behind(line, "REG:"));
      kernel->static_shared = std::max<int64_t>(
          0, number_behind(line, "SHARED:") - static_cast<int64_t>(kSystemShared));
      kernel = nullptr;
    }
  }
  if (output.close() != 0) throw std::runtime_error("failed: " + command);
  return kernels;
}

void read_code(const std::string& cuobjdump, const std::string& library,
               const std::vector<std::string>& names, std::map<std::string, SassKernel>* kernels) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ",") + name;
  if (list.empty()) return;
  // It complains about each source file that lacks some of them.
  const std::string command =
      "'" + cuobjdump + "' -arch sm_90 -sass -fun " + list + " '" + library + "' 2>/dev/null";
  SassKernel* kernel = nullptr;
  std::string line;
  Output output(command);
  while (output.line(&line)) {
    const size_t at = line.find("Function : ");
    if (at != std::string::npos) {
      const auto found = kernels->find(trimmed(line.substr(at + 11, line.find('\n') - at - 11)));
      // Once is enough, where several sources have it.
      kernel = found == kernels->end() || !found->second.code.empty() ? nullptr : &found->second;
      continue;
    }
    const size_t begin = line.find("/*"), end = line.find("*/"), stop = line.find(';');
    if (kernel == nullptr || begin == std::string::npos || stop == std::string::npos) continue;
    const size_t address = std::strtoull(line.c_str() + begin + 2, nullptr, 16);
    if (address != kernel->code.size() * kInstructionBytes)
      throw std::runtime_error(kernel->name + ": code that is not listed");
    kernel->code.push_back(parse_instruction(trimmed(line.substr(end + 2, stop - end - 2))));
    kernel->waits_for_blocks |= kernel->code.back().op == Op::kYield;
  }
  if (output.close() != 0) throw std::runtime_error("failed: " + command);
  read_tables(cuobjdump, library, kernels);
}

}  // namespace exn::gpu
