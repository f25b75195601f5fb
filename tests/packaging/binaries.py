# SPDX-License-Identifier: Apache-2.0
"""What the packaging checks read out of libraries for Windows (PE) and macOS (Mach-O), of 64 bits and
little-endian: machine, name, exports, libraries needed, and the oldest system asked for."""

import dataclasses
import struct


@dataclasses.dataclass
class Library:
    machine: str
    name: str  # by which others ask for it
    exports: set
    needs: set  # names of libraries
    system: tuple = ()  # version of the oldest one
    flags: int = 0


def text(data, at):
    return data[at:data.index(b"\0", at)].decode()


def read(data):
    return windows(data) if data[:2] == b"MZ" else macos(data)


# ---- Windows -------------------------------------------------------------------------------------


def windows(data):
    head = struct.unpack_from("<I", data, 0x3C)[0]
    if data[head:head + 4] != b"PE\0\0":
        raise ValueError("no PE file")
    machine, count, _, _, _, size, _ = struct.unpack_from("<HHIIIHH", data, head + 4)
    optional = head + 24
    sections = [struct.unpack_from("<IIII", data, optional + size + 40 * i + 8) for i in range(count)]

    def place(address):
        for virtual_size, start, raw_size, raw in sections:
            if start <= address < start + max(virtual_size, raw_size):
                return address - start + raw
        raise ValueError(f"no section holds {address:#x}")

    def directory(i):
        return struct.unpack_from("<II", data, optional + 112 + 8 * i)[0]

    name, exports = "", set()
    if directory(0):
        table = struct.unpack_from("<IIHHIIIIIII", data, place(directory(0)))
        name = text(data, place(table[4]))
        exports = {text(data, place(struct.unpack_from("<I", data, place(table[9]) + 4 * i)[0]))
                   for i in range(table[7])}
    needs = set()
    at = place(directory(1)) if directory(1) else 0
    while at and (entry := struct.unpack_from("<IIIII", data, at))[3]:
        needs.add(text(data, place(entry[3])))
        at += 20
    return Library({0x8664: "x86_64", 0xAA64: "arm64"}.get(machine, hex(machine)), name, exports, needs,
                   struct.unpack_from("<HH", data, optional + 48),
                   struct.unpack_from("<H", data, optional + 70)[0])


# ---- macOS ---------------------------------------------------------------------------------------


def macos(data):
    magic, cpu, _, _, count, _, flags, _ = struct.unpack_from("<8I", data)
    if magic != 0xFEEDFACF:
        raise ValueError("no Mach-O file of 64 bits")
    library = Library({0x01000007: "x86_64", 0x0100000C: "arm64"}.get(cpu, hex(cpu)), "", set(), set(),
                      (), flags)
    at = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", data, at)
        words = struct.unpack_from(f"<{size // 4}I", data, at)
        if kind == 0xD:  # LC_ID_DYLIB
            library.name = text(data, at + words[2])
        elif kind in (0xC, 0x80000018, 0x8000001F):  # LC_LOAD_DYLIB, weakly or to be passed on
            library.needs.add(text(data, at + words[2]))
        elif kind == 0x32:  # LC_BUILD_VERSION
            library.system = (words[3] >> 16, words[3] >> 8 & 255)
        elif kind == 0x24:  # LC_VERSION_MIN_MACOSX
            library.system = (words[2] >> 16, words[2] >> 8 & 255)
        elif kind == 2:  # LC_SYMTAB
            library.exports = external(data, *words[2:6])
        at += size
    return library


def external(data, symbols, count, strings, _):
    """Names that are defined here and seen by others, without the underscore of C."""
    found = set()
    for i in range(count):
        name, kind, section, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
        debugging, private, seen = kind & 0xE0, kind & 0x10, kind & 1
        if not debugging and not private and seen and section:
            found.add(text(data, strings + name)[1:])
    return found
