#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The compiler that JavaCPP calls: g++ on the sources that it has written, put into order first.

JavaCPP writes what a class holds in the order in which the JVM names it, which is that of addresses
in this run of it: two builds would have the same functions and fields, and other bytes. With --sort
as its first argument it leaves the compiling to others.
"""

import os
import re
import sys


def name_of(entry):
    """The field in a list of names, or in one of offsets; the struct's size comes first."""
    return "" if "sizeof" in entry else re.search(r'(\w+)["\s)]*$', entry)[1]


def in_order(source):
    def row(match):
        entries = re.split(r", (?=\"|offsetof)", match[2])
        return match[1] + ", ".join(sorted(entries, key=name_of)) + match[3]

    source = re.sub(r'^(\s*\{ )((?:"sizeof"|sizeof\().*?)( \}(?:,| \};)?)$', row, source, flags=re.M)
    functions = r"(?:^JNIEXPORT [^\n]*\{\n(?:^(?!\}\n)[^\n]*\n)*^\}\n)+"
    return re.sub(functions, lambda match: "".join(sorted(
        re.findall(r"^JNIEXPORT .*?^\}\n", match[0], flags=re.M | re.S))), source, flags=re.M)


def main():
    for path in sys.argv[1:]:
        if path.endswith(".cpp"):
            with open(path, encoding="utf-8") as file:
                source = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(in_order(source))
    if "--sort" not in sys.argv[1:2]:
        os.execvp("g++", ["g++", *sys.argv[1:]])


if __name__ == "__main__":
    main()
