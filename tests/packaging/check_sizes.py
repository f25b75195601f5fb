#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No source file has more than 700 lines, no function of native and cuda more than 60, and no class
of theirs more than 300, but for those that long_sources.tsv lists with their lines. An exception
that has become longer is an error, and so is one that is no longer needed.

  check_sizes.py ROOT [--list]     --list prints what the table would have to be
"""

import pathlib
import re
import sys

import elf

MOST = {"file": 700, "function": 60, "class": 300}
FILES = ["native", "cuda", "ops", "tests", "bench"]
CODE = ["native/src", "cuda"]
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".java", ".py", ".sh"}
TABLE = "tests/packaging/long_sources.tsv"
# What may stand before the brace of a body: `) const noexcept EXN_FLAT -> T : member(x)`.
BODY = re.compile(r"\)\s*(?:const|noexcept|override|EXN_FLAT|mutable|\s)*(?:->[\w:<>&* ]+)?$")
CONTROL = re.compile(r"\b(?:if|for|while|switch|catch)\s*(?:constexpr\s*)?$")
TYPE_NAME = re.compile(r"\b(?:class|struct|union)\s+(\w+)")
TYPE = re.compile(r"\b(?:class|struct|union)\s+(?:alignas\([^)]*\)\s*)?(\w+)[^;(){}]*$")


def without_comments(text):
    """The text with comments, literals and preprocessor lines blanked; line breaks stay."""
    def blank(found):
        return re.sub(r"[^\n]", " ", found[0])
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', blank, text,
                  flags=re.S)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)


def function_name(head):
    """The name of the function whose head ends before a brace; none if it is none."""
    head = re.sub(r"\)\s*:\s[^;{}]*$", ")", head) if re.search(r"\)\s*:\s", head) else head
    found = BODY.search(head)
    if not found:
        return None
    depth, at = 0, found.start()
    while at >= 0:
        depth += (head[at] == ")") - (head[at] == "(")
        if depth == 0:
            break
        at -= 1
    before = head[:max(at, 0)].rstrip()
    if CONTROL.search(before) or before.endswith("]"):
        return None
    name = re.search(r"([~\w]+|operator\W+)$", before)
    return name[1].strip() if name else None


def bodies(text):
    """Kind, name and lines of each class and each function that is not within another."""
    text, stack, begin = without_comments(text), [], 0
    for place in (found.start() for found in re.finditer(r"[{};]", text)):
        if text[place] == "{":
            head = text[begin:place]
            kind, name = "", ""
            if not any(k == "function" for k, _, _ in stack):
                name = function_name(head)
                kind = "function" if name else ""
            if not kind and TYPE.search(head) and "enum" not in head:
                kind, name = "class", TYPE_NAME.findall(head)[-1]
            first = begin + len(head) - len(head.lstrip())
            stack.append((kind, name, first))
        elif text[place] == "}" and stack:
            kind, name, first = stack.pop()
            if kind:
                yield kind, name, text.count("\n", first, place) + 1
        elif text[place] == ";" and text.count("(", begin, place) > text.count(")", begin, place):
            continue  # within the head of a loop
        begin = place + 1


def long_ones(root):
    """Lines of what is too long, by kind, path and name."""
    found = {}
    for floor in FILES:
        for path in sorted((root / floor).rglob("*")):
            name = str(path.relative_to(root))
            if path.suffix not in SUFFIXES or not path.is_file() or "/target/" in name:
                continue
            text = path.read_text(errors="replace")
            lines = [("file", "", text.count("\n"))]
            if path.suffix != ".java" and any(name.startswith(code + "/") for code in CODE):
                lines += bodies(text)
            for kind, what, count in lines:
                if count > MOST[kind]:
                    key = (kind, name, what)
                    found[key] = max(count, found.get(key, 0))
    return found


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    problems, found = elf.Problems(), long_ones(root)
    if "--list" in sys.argv:
        for (kind, path, what), lines in sorted(found.items()):
            print(kind, path, what or "-", lines, sep="\t")
        return
    listed = {}
    for line in (root / TABLE).read_text().splitlines():
        if line and not line.startswith("#"):
            kind, path, what, lines = line.split("\t")
            listed[kind, path, what.replace("-", "")] = int(lines)
    for key, lines in found.items():
        kind, path, what = key
        name = f"{path}: {what}" if what else path
        if key not in listed:
            problems.expect(False, f"{name} has {lines} lines, a {kind} at most {MOST[kind]}")
        else:
            problems.expect(lines <= listed[key],
                            f"{name} has {lines} lines, and may have {listed[key]} ({TABLE})")
    for kind, path, what in listed.keys() - found.keys():
        problems.expect(False, f"{path} {what}: no longer too long, so not in {TABLE}")
    print(f"{len(found)} exceptions")
    problems.finish()


if __name__ == "__main__":
    main()
