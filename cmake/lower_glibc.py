#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Has a library that was linked on a new Linux start on old ones: lower_glibc.py 2.17 g++ LIBRARY

The linker binds each function of glibc to its newest version, which an older glibc lacks, though
nearly all of them are there under an earlier version as well (pthread_create and dlopen changed the
library that they lie in with 2.34, and exp, log and pow stopped setting errno with 2.29). This binds
each to the newest version that is not newer than asked for, as the glibc that the compiler links with
lists them, and takes out of the library's lists what nothing needs then. What has no such version
stays as it is, and is named.
"""

import collections
import functools
import re
import struct
import subprocess
import sys

def number(version):
    return [int(word) for word in version.split("_")[1].split(".")]


@functools.cache
def versions_of(library, compiler):
    """Of each function of a library, all its versions."""
    found = collections.defaultdict(set)
    path = subprocess.run([compiler, f"-print-file-name={library}"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()
    text = subprocess.run(["readelf", "-W", "--dyn-syms", path], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    for name, version in re.findall(r" (\w+)@@?(GLIBC_[0-9.]+)(?:\s|$)", text):
        found[name].add(version)
    return found


def hash_of(name):  # the ELF hash
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        value = (value ^ (value >> 24 & 0xF0)) & 0x0FFFFFFF
    return value


class Library:
    """The tables of a 64-bit little-endian ELF file that say which version each symbol needs."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.bytes = bytearray(file.read())
        if self.bytes[:6] != b"\x7fELF\x02\x01":
            sys.exit(f"{path} is no 64-bit ELF file")
        (at,), (size, count) = (struct.unpack_from("<Q", self.bytes, 40),
                                struct.unpack_from("<HH", self.bytes, 58))
        sections = [struct.unpack_from("<IIQQQQIIQQ", self.bytes, at + i * size) for i in range(count)]
        by_type = {section[1]: section for section in sections}
        self.symbols = by_type[11]  # SHT_DYNSYM
        self.strings = sections[self.symbols[6]]
        self.indices = by_type[0x6FFFFFFF][4]  # SHT_GNU_versym
        needed = by_type[0x6FFFFFFE]  # SHT_GNU_verneed
        self.needs = {}  # index: where its entry is, its version, its file
        self.lists = []  # of each file: where its header is, and places and indices of its entries
        at = needed[4]
        for _ in range(needed[7]):
            _, count, file, first, following = struct.unpack_from("<HHIII", self.bytes, at)
            entry = at + first
            self.lists.append((at, []))
            for _ in range(count):
                _, _, index, name, step = struct.unpack_from("<IHHII", self.bytes, entry)
                self.needs[index] = (entry, self.text(name), self.text(file))
                self.lists[-1][1].append((entry, index))
                entry += step
            at += following

    def text(self, offset):
        at = self.strings[4] + offset
        return self.bytes[at : self.bytes.index(0, at)].decode()

    def undefined(self):
        """Name, and where the index of its version is, of what other libraries have."""
        for i in range(self.symbols[5] // 24):
            name, _, _, section = struct.unpack_from("<IBBH", self.bytes, self.symbols[4] + 24 * i)
            if section == 0 and name != 0:
                yield self.text(name), self.indices + 2 * i

    def lower(self, limit, compiler):
        """Binds what needs a newer glibc to an older version; returns what has none."""
        def too_new(version):
            return version.startswith("GLIBC_") and number(version) > limit

        lacking, used = [], set()
        for name, place in self.undefined():
            index = struct.unpack_from("<H", self.bytes, place)[0]
            _, version, file = self.needs.get(index, (0, "", ""))
            if too_new(version):
                older = [v for v in versions_of(file, compiler)[name] if not too_new(v)]
                lower = self.need(file, max(older, key=number), too_new) if older else 0
                if lower:
                    index = lower
                    struct.pack_into("<H", self.bytes, place, index)
                else:
                    lacking.append(f"{name}@{version}")
            used.add(index)
        self.forget_all_but(used)
        return lacking

    def forget_all_but(self, used):
        """Takes what nothing needs out of the lists of versions, of which each file keeps one."""
        for header, entries in self.lists:
            kept = [at for at, index in entries if index in used] or [entries[0][0]]
            struct.pack_into("<H", self.bytes, header + 2, len(kept))
            struct.pack_into("<I", self.bytes, header + 8, kept[0] - header)
            for at, following in zip(kept, kept[1:] + [0]):
                struct.pack_into("<I", self.bytes, at + 12, following - at if following else 0)

    def need(self, file, version, too_new):
        """The index by which symbols say that they need this version of the file. Where nothing did
        so far, it takes the entry of a version that is too new."""
        indices = {(has, of): index for index, (_, has, of) in self.needs.items()}
        if (version, file) in indices:
            return indices[version, file]
        spare = next((index for (has, of), index in indices.items() if of == file and too_new(has)), 0)
        begin, size = self.strings[4:6]
        name = self.bytes.find(b"\0" + version.encode() + b"\0", begin, begin + size) + 1 - begin
        if not spare or name <= 0:
            return 0  # there is no space to say so; old_glibc.cpp can make some
        entry = self.needs[spare][0]
        struct.pack_into("<I", self.bytes, entry, hash_of(version))
        struct.pack_into("<I", self.bytes, entry + 8, name)
        self.needs[spare] = (entry, version, file)
        return spare


def main():
    newest, compiler, path = sys.argv[1:]
    library = Library(path)
    for name in library.lower([int(word) for word in newest.split(".")], compiler):
        print(f"{path}: {name} cannot be bound to glibc {newest}", file=sys.stderr)
    with open(path, "r+b") as file:
        file.write(library.bytes)


if __name__ == "__main__":
    main()
