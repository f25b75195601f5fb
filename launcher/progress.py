#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what ninja, ctest or Maven print, and says how far they are.

    COMMAND 2>&1 | launcher/progress.py --log FILE --step 2/4 --title compiling

On a terminal that is one line, which is overwritten; elsewhere a line a minute. What fails is
printed at once, and everything goes to the log.
"""

import argparse
import re
import select
import sys
import time

NINJA = re.compile(r"\[(\d+)/(\d+)\] ")
CTEST = re.compile(r"\s*(\d+)/(\d+) Test +#\d+: (\S+) \.*")
CTEST_START = re.compile(r"\s+Start +\d+: ")
MAVEN = re.compile(r"\[INFO\] Building (\S.*?\S) +\S*SNAPSHOT +\[(\d+)/(\d+)\]")
MAVEN_SUITE = re.compile(r"\[\w+\] Tests run: .*Time elapsed: .* -+ in (\S+)")
MAVEN_BOILERPLATE = re.compile(r"\[ERROR\] *($|To see the full|Re-run Maven|For more information|"
                               r"After correcting|  mvn <args>|\[Help)")


class Reader:
    """What the lines so far say: how many steps of how many are done, and what is at work."""

    def __init__(self):
        self.done, self.total, self.at = 0, 0, ""
        self.suites = 0
        self.failing = False  # within what ninja or ctest print of a failure

    def take(self, line):
        """Whether the line is about a failure."""
        if match := NINJA.match(line):
            self.done, self.total = int(match[1]), int(match[2])
            self.failing = False
        elif match := CTEST.match(line):
            self.done, self.total, self.at = int(match[1]), int(match[2]), match[3]
            self.failing = "***" in line and "***Skipped" not in line and "(Disabled)" not in line
        elif CTEST_START.match(line):
            self.failing = False
        elif line.startswith(("FAILED: ", "The following tests FAILED", "CMake Error")):
            self.failing = True
        elif match := MAVEN.match(line):
            self.at, self.done, self.total = match[1], int(match[2]) - 1, int(match[3])
        elif MAVEN_SUITE.match(line):
            self.suites += 1
        if line.startswith("[ERROR]"):
            return not MAVEN_BOILERPLATE.match(line)
        return self.failing

    def state(self, seconds):
        text = f"{self.done} of {self.total}" if self.total else "starting"
        if self.suites:
            text += f", {self.suites} test classes"
        if self.at:
            text += f", {self.at}"
        # Long tests begin first, so the first of them say little.
        if self.total and self.done >= 0.25 * self.total and seconds > 20:
            left = seconds * (self.total - self.done) / self.done
            text += f", about {duration(left)} left of this step"
        return text


def duration(seconds):
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True)
    parser.add_argument("--step", required=True, help="n/m")
    parser.add_argument("--title", required=True)
    parser.add_argument("--every", type=float, default=60, help="seconds between lines of a log")
    given = parser.parse_args()
    step = f"exeunt: step {given.step.replace('/', ' of ')}, {given.title}"
    terminal = sys.stderr.isatty()
    start = told = time.monotonic()
    reader = Reader()
    print(step, file=sys.stderr, flush=True)

    def tell():
        seconds = time.monotonic() - start
        line = f"{step}: {reader.state(seconds)}, {duration(seconds)} so far"
        print(f"\r{line:.110}\033[K" if terminal else line,
              end="" if terminal else "\n", file=sys.stderr, flush=True)

    with open(given.log, "ab", buffering=0) as log:
        rest = b""
        while True:
            ready, _, _ = select.select([sys.stdin.buffer], [], [], 0.5)
            if ready:
                chunk = sys.stdin.buffer.raw.read(65536)
                log.write(chunk)
                if not chunk and not rest:
                    break
                *lines, rest = (rest + (chunk or b"\n")).split(b"\n")
                for line in lines:
                    text = line.decode("utf-8", "replace").rstrip("\r")
                    if reader.take(text):
                        print("\r\033[K" * terminal + text, flush=True)
            if time.monotonic() - told >= (0.5 if terminal else given.every):
                told = time.monotonic()
                tell()
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
