#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Static gate on the machine code of the CUDA kernels: what no test of values would see.

For every kernel and architecture, against budgets.txt:
  registers and static shared memory within budget; no stack, no local memory, no spills;
  in the SASS: 128-bit global loads (or asynchronous copies) and stores where promised, no local
  loads or stores, no f64 arithmetic outside the f64 kernels, no calls of functions (the slow path
  of a division is a subroutine inside its kernel). Who promises wide loads promises wide stores, or
  says why it has none.
Printing all SASS would take most of a minute. The few instructions that matter are told by their
bits, and some kernels of each architecture are printed, too, to see that bits mean what they did.
A kernel without a budget, and a budget that no kernel uses, are errors too.

  gate.py --nvcc PATH --archs 80 90           compiles cuda/src/*.cu for these architectures (also:
                                              developer, release)
  gate.py --cuobjdump PATH --library FILE...  checks the machine code inside a built
                                              libexeunt_cuda.so or its objects
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCH_SETS = {"developer": ["80", "90"], "release": ["80", "86", "89", "90", "100", "120"]}

# Shared memory that the system takes from every block; cuobjdump counts it from sm_90 on.
SYSTEM_SHARED = 1024

# Why a kernel that loads 128 bits at a time may have no such store: budgets.txt says what each means.
NARROW_STORES = {"scalars", "converts"}
PROMISES = {"load128", "copy128", "store128", "f64"} | NARROW_STORES

# Bits 0 to 8 of an instruction, which has 16 bytes; of wide accesses and of f64 reciprocals the
# bits that say so, in its second half from bit 9 or 10 on.
OPCODES = {0x023: "FFMA", 0x028: "DMUL", 0x029: "DADD", 0x02a: "DSETP", 0x02b: "DFMA",
           0x108: "MUFU", 0x143: "CALL.ABS", 0x181: "LDG.E", 0x183: "LDL", 0x186: "STG.E",
           0x187: "STL", 0x1ae: "LDGSTS.E"}
SIZES = {5: ".64", 6: ".128"}
FUNCTIONS = {6: ".RCP64H", 7: ".RSQ64H"}

# What cuobjdump says of a kernel, and of an instruction.
RESOURCES = r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)"
PRINTED = r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]*)"


@dataclass
class Budget:
    pattern: str
    registers: int
    shared: int
    promises: set
    uses: int = 0
    wide: int = 0  # of these, kernels that have a 128-bit store


@dataclass
class Kernel:
    arch: str
    name: str
    registers: int = 0
    stack: int = 0
    local: int = 0
    shared: int = 0
    opcodes: dict = field(default_factory=dict)

    def count(self, pattern):
        return sum(n for opcode, n in self.opcodes.items() if re.match(pattern, opcode))


def read_budgets(path):
    budgets = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        fields = [f.strip() for f in line.split("|")]
        if len(fields) != 4:
            sys.exit(f"{path}:{number}: expected 'kernel | registers | shared bytes | promises'")
        promises = set(fields[3].split())
        unknown = promises - PROMISES
        if unknown:
            sys.exit(f"{path}:{number}: unknown promise {sorted(unknown)}")
        is_wide = bool(promises & {"load128", "copy128"})
        if len(promises & ({"store128"} | NARROW_STORES)) != is_wide:
            sys.exit(f"{path}:{number}: wide loads need store128 or one of {sorted(NARROW_STORES)}, "
                     "and others need neither")
        budgets.append(Budget(fields[0], int(fields[1]), int(fields[2]), promises))
    return budgets


def run(command, folder=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          cwd=folder)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed:\n{done.stdout[-4000:]}")
    return done.stdout


def short_names(mangled):
    """Demangled names without parameters and namespaces: rows_kernel<float, Softmax<float>>."""
    text = run(["c++filt", *mangled]) if mangled else ""
    names = {}
    for symbol, line in zip(mangled, text.splitlines()):
        name = line.replace("exn::cuda::", "").replace("(anonymous namespace)::", "")
        name = re.sub(r"^void ", "", name)
        depth = 0
        for i, ch in enumerate(name):
            depth += (ch == "<") - (ch == ">")
            if ch == "(" and depth == 0:
                name = name[:i]
                break
        names[symbol] = name.replace("> >", ">>").replace("> >", ">>")
    return names


def name_of(bits, arch):
    name = OPCODES.get(bits & 0x1ff, "other")
    if name in ("LDG.E", "STG.E", "LDGSTS.E"):
        moved = name == "LDGSTS.E" and int(arch) >= 100
        return name + SIZES.get(bits >> (10 if moved else 9) & 7, "")
    return name + FUNCTIONS.get(bits >> 10 & 15, "") if name == "MUFU" else name


def name_of_printed(opcode):
    """The same of a mnemonic."""
    parts = opcode.split(".")
    if parts[0] in ("LDG", "STG", "LDGSTS"):
        return parts[0] + ".E" + "".join(size for size in SIZES.values() if size[1:] in parts)
    if parts[0] == "MUFU":
        return "MUFU" + "".join(f for f in FUNCTIONS.values() if f[1:] in parts)
    name = "CALL.ABS" if opcode.startswith("CALL.ABS") else parts[0]
    return name if name in OPCODES.values() else "other"


def code_in(cubin, arch):
    """The opcodes of each kernel, from the section that has its code."""
    data = cubin.read_bytes()
    sections, = struct.unpack_from("<Q", data, 40)
    count, names = struct.unpack_from("<HH", data, 60)
    headers = [struct.unpack_from("<IIQQQQ", data, sections + 64 * i) for i in range(count)]
    for name, _, _, _, at, size in headers:
        begin = headers[names][4] + name
        label = data[begin:data.index(b"\0", begin)].decode()
        if not label.startswith(".text.") or size == 0:
            continue
        bits = collections.Counter(low & 0x1ff | high & 0x3e00 for low, high
                                   in struct.iter_unpack("<QQ", data[at:at + size]))
        opcodes = collections.Counter()
        for value, times in bits.items():
            opcodes[name_of(value, arch)] += times
        yield label[len(".text."):], dict(opcodes)


def code_by_arch(cuobjdump, binary, archs):
    if binary.suffix == ".cubin":
        return {archs[0]: dict(code_in(binary, archs[0]))}
    code = {arch: {} for arch in archs}
    for arch in archs:
        with tempfile.TemporaryDirectory() as folder:  # cuobjdump writes where it runs
            run([Path(cuobjdump).resolve(), "-arch", f"sm_{arch}", "-xelf", "all",
                 binary.resolve()], folder)
            for cubin in sorted(Path(folder).iterdir()):
                code[arch].update(code_in(cubin, arch))
    return code


def check_some(cuobjdump, binary, arch, code):
    """The smallest kernel with each of the opcodes is printed, and must have the same of all."""
    chosen = set()
    for wanted in {opcode for opcodes in code.values() for opcode in opcodes}:
        size, name = min((sum(opcodes.values()), name) for name, opcodes in code.items()
                         if wanted in opcodes)
        chosen.add(name)
    # It complains about each source file that lacks some of them.
    which = [] if binary.suffix == ".cubin" else ["-arch", f"sm_{arch}"]
    printed = subprocess.run([cuobjdump, *which, "-sass", "-fun", ",".join(sorted(chosen)), binary],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             check=False).stdout
    found, symbol = {}, None
    for line in printed.splitlines():
        if is_function := re.search(r"Function : (\S+)", line):
            symbol = is_function.group(1)
            found[symbol] = collections.Counter()
        elif is_code := re.match(PRINTED, line):
            found[symbol][name_of_printed(is_code.group(1))] += 1
    for name in chosen:
        if dict(found.get(name, {})) != code[name]:
            sys.exit(f"{binary}: the bits of {name} for sm_{arch} say {code[name]}, "
                     f"cuobjdump {dict(found.get(name, {}))}")


def kernels_in(cuobjdump, binary, default_arch):
    usage = run([cuobjdump, "-res-usage", binary])
    kernels, arch, symbol = {}, default_arch, None
    for line in usage.splitlines():
        if found := re.search(r"arch = sm_(\d+)", line):
            arch = found.group(1)
        if found := re.search(r"Function (\S+?):", line):
            symbol = found.group(1)
            kernels[arch, symbol] = Kernel(arch, symbol)
        elif symbol and (found := re.search(RESOURCES, line)):
            kernel = kernels[arch, symbol]
            kernel.registers, kernel.stack, kernel.shared, kernel.local = map(int, found.groups())
            # 0: a kernel that has none of its own, on some.
            if int(arch) >= 90 and kernel.shared > 0:
                kernel.shared -= SYSTEM_SHARED
            symbol = None
    archs = sorted({k.arch for k in kernels.values()}, key=int)
    for arch, code in code_by_arch(cuobjdump, binary, archs).items():
        for symbol, opcodes in code.items():
            if (arch, symbol) not in kernels:
                sys.exit(f"{binary}: SASS of {symbol} for sm_{arch}, but no resource usage")
            kernels[arch, symbol].opcodes = opcodes
        check_some(cuobjdump, binary, arch, code)
    names = short_names(sorted({k.name for k in kernels.values()}))
    for kernel in kernels.values():
        kernel.name = names[kernel.name]
        if not kernel.opcodes:
            sys.exit(f"{binary}: no SASS for {kernel.name} on sm_{kernel.arch}")
    return list(kernels.values())


def compile_for(nvcc, source, arch, folder):
    cubin = folder / f"{source.stem}.sm_{arch}.cubin"
    includes = [f"-I{ROOT}/{folder}" for folder in ("cuda/include", "native/include", "native/src")]
    run([nvcc, "-std=c++17", "-O3", "-cubin", f"-arch=sm_{arch}", *includes, "-o", cubin, source])
    return cubin


def compiled_kernels(nvcc, cuobjdump, archs, jobs):
    sources = sorted((ROOT / "cuda/src").glob("*.cu"))
    if not sources:
        sys.exit("cuda/src has no sources")
    # The longest to compile first.
    sources.sort(key=lambda s: s.stem not in ("exit_head", "linear", "linear_blocks", "stablemax"))
    with (tempfile.TemporaryDirectory() as folder,
          concurrent.futures.ThreadPoolExecutor(jobs) as pool):
        work = [(source, arch) for source in sources for arch in archs]
        cubins = pool.map(lambda item: compile_for(nvcc, *item, Path(folder)), work)
        kernels = []
        for (source, arch), cubin in zip(work, cubins):
            kernels += kernels_in(cuobjdump, cubin, arch) if has_kernels(cuobjdump, cubin) else []
        return kernels


def has_kernels(cuobjdump, binary):
    return "Function " in run([cuobjdump, "-res-usage", binary])


def faults_of(kernel, budget):
    faults = []
    if kernel.registers > budget.registers:
        faults.append(f"{kernel.registers} registers, budget {budget.registers}")
    if kernel.shared > budget.shared:
        faults.append(f"{kernel.shared} bytes of static shared memory, budget {budget.shared}")
    if kernel.stack or kernel.local:
        faults.append(f"stack {kernel.stack}, local memory {kernel.local} bytes, budget 0")
    if kernel.count(r"(LDL|STL)\b"):
        faults.append("loads from or stores to local memory")
    if kernel.count(r"(CALL\.ABS|JCAL)\b"):
        faults.append("calls a function")
    if "load128" in budget.promises and not kernel.count(r"LDG\.E(\.\w+)*\.128"):
        faults.append("no 128-bit global load")
    if "store128" in budget.promises and not kernel.count(r"STG\.E(\.\w+)*\.128"):
        faults.append("no 128-bit global store")
    if "copy128" in budget.promises and not kernel.count(r"LDGSTS(\.\w+)*\.128"):
        faults.append("no 128-bit asynchronous copy")
    doubles = kernel.count(r"(DFMA|DADD|DMUL|DSETP|DMNMX|MUFU\.(RCP|RSQ)64H)")
    if doubles and "f64" not in budget.promises:
        faults.append(f"{doubles} f64 instructions")
    if "f64" in budget.promises and not doubles:
        faults.append("f64 promised, but there is none: the budget is stale")
    return faults


def print_table(rows):
    rows.sort(key=lambda r: (r[0].name, int(r[0].arch)))
    width = max(len(k.name) for k, _, _ in rows)
    print(f"{'kernel':{width}}  arch  regs budget  shared  LDG.128 LDGSTS.128  STG.128   FFMA   DFMA")
    for kernel, budget, faults in rows:
        mark = "  <- " + "; ".join(faults) if faults else ""
        patterns = ("LDG.E(.[A-Z0-9]+)*.128", "LDGSTS(.[A-Z0-9]+)*.128",
                    "STG.E(.[A-Z0-9]+)*.128", "FFMA", "DFMA")
        loads, copies, stores, singles, doubles = map(kernel.count, patterns)
        print(f"{kernel.name:{width}}  {kernel.arch:>4}  {kernel.registers:4} "
              f"{budget.registers:6}  {kernel.shared:6}  {loads:>7} {copies:>10}  "
              f"{stores:>7}  {singles:>5}  {doubles:>5}{mark}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default=shutil.which("nvcc"))
    parser.add_argument("--cuobjdump", help="default: beside nvcc, else on PATH")
    parser.add_argument("--archs", nargs="+", default=["developer"],
                        help="numbers, developer or release")
    parser.add_argument("--library", type=Path, nargs="+",
                        help="built libraries or objects to look at instead of compiling")
    parser.add_argument("--budgets", type=Path, default=Path(__file__).with_name("budgets.txt"))
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)))
    args = parser.parse_args()

    cuobjdump = args.cuobjdump
    if not cuobjdump and args.nvcc and Path(args.nvcc).with_name("cuobjdump").exists():
        cuobjdump = str(Path(args.nvcc).with_name("cuobjdump"))
    cuobjdump = cuobjdump or shutil.which("cuobjdump")
    if not cuobjdump:
        sys.exit("gate: no cuobjdump found (beside nvcc, or on PATH); give --cuobjdump")
    budgets = read_budgets(args.budgets)
    if args.library:
        kernels = [k for library in args.library
                   for k in kernels_in(cuobjdump, library, None)]
    else:
        if not args.nvcc:
            sys.exit("gate: no nvcc found; give --nvcc, or --library")
        archs = [a for name in args.archs for a in ARCH_SETS.get(name, [name])]
        kernels = compiled_kernels(args.nvcc, cuobjdump, archs, args.jobs)
    if not kernels:
        sys.exit("gate: FAILED, no kernels found")

    rows, problems = [], []
    for kernel in kernels:
        budget = next((b for b in budgets if fnmatch.fnmatchcase(kernel.name, b.pattern)), None)
        if budget is None:
            problems.append(f"{kernel.name} (sm_{kernel.arch}) has no line in {args.budgets.name}")
            continue
        budget.uses += 1
        budget.wide += kernel.count(r"STG\.E(\.\w+)*\.128") > 0
        faults = faults_of(kernel, budget)
        rows.append((kernel, budget, faults))
        problems += [f"{kernel.name} (sm_{kernel.arch}): {fault}" for fault in faults]
    problems += [f"{args.budgets.name}: no kernel is called {b.pattern}"
                 for b in budgets if not b.uses]
    problems += [f"{args.budgets.name}: {b.pattern} has 128-bit stores, and says why it has none"
                 for b in budgets if b.promises & NARROW_STORES and b.uses and b.wide == b.uses]
    if rows:
        print_table(rows)
    archs = ", ".join("sm_" + a for a in sorted({k.arch for k in kernels}, key=int))
    if problems:
        print("\n" + "\n".join(problems))
        print(f"gate: FAILED, {len(problems)} problems in {len(kernels)} kernels ({archs})")
        return 1
    print(f"gate: ok, {len(kernels)} kernels ({archs}): registers, shared memory, no spills, "
          "128-bit loads and stores, no stray f64")
    return 0


if __name__ == "__main__":
    sys.exit(main())
