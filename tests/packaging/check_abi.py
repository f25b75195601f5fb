#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C ABI beside what releases had: programs that were compiled with one must run with the next.

  check_abi.py ROOT CC                      compares with all records of the same EXN_ABI_VERSION
  check_abi.py ROOT CC --record VERSION     writes native/abi/VERSION.txt, unless that is released
  check_abi.py ROOT CC --release VERSION    is that file what the headers are?

The record of the version in CMakeLists.txt, which is to be released, must be what the headers are.
A record has each function with its types, each constant, and each struct with its size and the
place, size and type of its fields. Functions, constants and fields stay as they are; structs grow at
their end alone. What breaks that needs another EXN_ABI_VERSION.
"""

import pathlib
import re
import subprocess
import sys
import tempfile


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def words(text):
    return re.sub(r"\s*([*,()])\s*", r"\1", " ".join(text.split()))


def type_of(declaration):
    """A parameter or a field without its name, and the name; `void` has none."""
    found = re.fullmatch(r"(.*[\s*])(\w+)((?:\[\w*\])*)", declaration.strip(), flags=re.S)
    return (words(found[1]).strip() + found[3], found[2]) if found else (words(declaration), "")


def functions(text):
    for result, name, parameters in re.findall(r"^EXN_API\b([^;(]*?)\b(\w+)\s*\(([^)]*)\)\s*;", text,
                                               flags=re.M):
        types = ",".join(type_of(parameter)[0] for parameter in parameters.split(","))
        yield name, f"{words(result)} ({types})"


def structs(text):
    for body, name in re.findall(r"^typedef struct \w*\s*\{([^{}]*)\}\s*(exn_\w+);", text, flags=re.M):
        yield name, [type_of(field) for field in body.split(";") if field.strip()]


def constants(text):
    for body in re.findall(r"^(?:typedef )?enum\s*\w*\s*\{(.*?)\}", text, flags=re.M | re.S):
        yield from re.findall(r"\b(EXN_\w+)\s*=", body)
    yield from re.findall(r"^#define (EXN_\w+) [(\d]", text, flags=re.M)


def measured(root, cc, text):
    """What the compiler makes of it: lines as a record has them."""
    prints = []
    for name, fields in structs(text):
        prints.append(f'printf("struct {name} %zu\\n", sizeof({name}));')
        for kind, field in fields:
            prints.append(f'printf("field {name}.{field} %zu %zu {kind}\\n", offsetof({name}, {field}), '
                          f"sizeof((({name}*)0)->{field}));")
    for name in constants(text):
        prints.append(f'printf("constant {name} %lld\\n", (long long)({name}));')
    includes = "".join(f"#include <exeunt/{header.name}>\n" for header in headers(root))
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "abi.c")
        source.write_text(f"#include <stddef.h>\n#include <stdio.h>\n{includes}\nint main(void) {{\n"
                          + "\n".join(prints) + "\nreturn 0;\n}\n")
        program = source.with_suffix("")
        subprocess.run([cc, "-std=c11", f"-I{root}/native/include", source, "-o", program], check=True)
        return subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")


def headers(root):
    """Ours; DLPack's structs are as they are, and may come from elsewhere."""
    return [header for header in sorted((root / "native/include/exeunt").glob("*.h"))
            if header.name != "dlpack_abi.h"]


def record(root, cc):
    text = without_comments("\n".join(header.read_text() for header in headers(root)))
    lines = {f"function {name} {types}" for name, types in functions(text)}
    return sorted(lines | {line for line in measured(root, cc, text) if line})


def parsed(lines):
    """Kind and name of each line, and the rest of it."""
    return {tuple(line.split(" ", 2)[:2]): line.split(" ", 2)[2] for line in lines}


def broken(before, now):
    """Sentences about what a program that was compiled with the one would miss in the other."""
    for (kind, name), was in before.items():
        is_now = now.get((kind, name))
        if is_now is None:
            yield f"the {kind} {name} is gone"
        elif kind == "struct":
            if int(is_now) < int(was):
                yield f"the struct {name} has {is_now} bytes, less than {was}"
        elif is_now != was and (kind, name) != ("constant", "EXN_ABI_VERSION"):
            yield f"the {kind} {name} is '{is_now}', and was '{was}'"
    for (kind, name), where in now.items():
        size = before.get(("struct", name.split(".")[0]))
        if kind == "field" and size and (kind, name) not in before and int(where.split()[0]) < int(size):
            yield (f"the field {name} is new and begins at byte {where.split()[0]}, within the {size} that "
                   "the struct had")


def refuse_released(root, version):
    """A release has the tag of its version, and its record stays as it is."""
    tag = subprocess.run(["git", "-C", root, "tag", "--list", f"v{version}", version],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if tag.stdout.strip():
        sys.exit(f"{version} is released, as the tag {tag.stdout.split()[0]} says: its record stays, and the "
                 "next version goes into pom.xml and CMakeLists.txt")


def differences(path, lines):
    """Sentences about a record that must be what the headers are."""
    was, now = set(path.read_text().splitlines()), set(lines)
    changed = sorted(was ^ now)
    if changed:
        yield (f"{path.name} in native/abi is not what the headers are: {len(now - was)} lines are new, "
               f"{len(was - now)} are gone, such as '{changed[0]}'. As long as {path.stem} is not released, "
               "each change of a header records it again, and is committed with it: "
               f"python3 tests/packaging/check_abi.py . cc --record {path.stem}")


def main():
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    root, cc = pathlib.Path(sys.argv[1]), sys.argv[2]
    lines = record(root, cc)
    folder = root / "native/abi"
    project = re.search(r"^project\(exeunt VERSION (\S+)", (root / "CMakeLists.txt").read_text(), flags=re.M)
    mode, version = sys.argv[3:] or (None, project[1])
    if mode == "--record":
        refuse_released(root, version)
        folder.mkdir(exist_ok=True)
        (folder / f"{version}.txt").write_text("\n".join(lines) + "\n")
    now, wrong, compared = parsed(lines), [], []
    for path in sorted(folder.glob("*.txt")):
        before = parsed(path.read_text().splitlines())
        abi = ("constant", "EXN_ABI_VERSION")
        if path.stem == version:
            wrong += differences(path, lines)
        elif before[abi] == now[abi]:
            wrong += [f"since {path.stem}: {sentence}" for sentence in broken(before, now)]
        else:
            continue
        compared.append(path.stem)
    if mode == "--release" and version not in compared:
        wrong.append(f"native/abi/{version}.txt is not recorded")
    print("\n".join(wrong) or f"{len(now)} functions, constants, structs and fields; compared with "
          + (", ".join(compared) or "no release, for none has this ABI"))
    sys.exit(bool(wrong))


main()
