#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples of README and docs build and print what they say they print; Java fragments compile.

  readme_test.py c CC LIBRARY
  readme_test.py java JAVA JAR...
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What the fragments in docs/java.md take for granted.
FRAGMENT = """import org.exeunt.*;
class Fragment {
  static void run(Scope scope, Tensor query, KvCache cache, int tokens, Tensor hidden,
      Tensor position) {
%s  }
  public static void main(String[] arguments) {}
}
"""


PAGES = {"c": "docs/c.md", "java": "README.md"}


def example(language):
    """Source of the page's example, and the lines that the sentence after it promises."""
    text = (ROOT / PAGES[language]).read_text()
    block = re.search(rf"^```{language}\n(.*?)^```\n\nIt prints (.*?)\.(?:\s+[A-Z])", text,
                      flags=re.S | re.M)
    if not block:
        raise SystemExit(f"{PAGES[language]} has no {language} example followed by 'It prints ...'")
    return block[1], re.findall(r"`([^`]*)`", block[2])


def run(command, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run(list(map(str, command)), text=True, check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}:\n"
                         f"{done.stdout}{done.stderr}")
    return done.stdout


def run_c(folder, source, cc, library):
    (folder / "snippet.c").write_text(source)
    directory = pathlib.Path(library).parent
    run([cc, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/native/include",
         folder / "snippet.c", f"-L{directory}", "-lexeunt", "-o", folder / "snippet"])
    return run([folder / "snippet"], env={**os.environ, "LD_LIBRARY_PATH": str(directory)})


def run_java(folder, source, java, *jars):
    command = [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "--class-path",
               os.pathsep.join(jars)]
    blocks = re.findall(r"^```java\n(.*?)^```", (ROOT / "docs/java.md").read_text(), flags=re.S | re.M)
    for block in blocks:
        if "class " not in block:
            (folder / "Fragment.java").write_text(FRAGMENT % block)
            run([*command, folder / "Fragment.java"])
    (folder / "Snippet.java").write_text(source)
    check_production(folder, command)
    return run([*command, folder / "Snippet.java"])


def check_production(folder, command):
    """Each program of docs/production.md prints what the sentence after it says, perhaps among more;
    its options are in an indented line."""
    page = (ROOT / "docs/production.md").read_text()
    programs = re.findall(r"^```java\n(.*?)^```\n\nIt prints (.*?)(?:\n\n|\Z)", page,
                          flags=re.S | re.M)
    if page.count("```java\n") != len(programs):
        raise SystemExit("docs/production.md has a program not followed by 'It prints ...'")
    for source, promise in programs:
        name = re.search(r"public class (\w+)", source)[1]
        (folder / f"{name}.java").write_text(source)
        options = re.search(rf"^    java (.*) {name}\.java$", page, flags=re.M)
        printed = run([*command, *(options[1].split() if options else ()), folder / f"{name}.java"],
                      stderr=subprocess.STDOUT)
        for expected in re.findall(r"`([^`]*)`", promise.split(". ")[0]):
            if not re.search(rf"^{re.escape(expected)}\b", printed, flags=re.M):
                raise SystemExit(f"docs/production.md promises '{expected}', {name} printed\n{printed}")


def main():
    language, *rest = sys.argv[1:]
    source, expected = example(language)
    with tempfile.TemporaryDirectory() as folder:
        runner = {"c": run_c, "java": run_java}[language]
        printed = runner(pathlib.Path(folder), source, *rest).splitlines()
    print("\n".join(printed))
    if printed != expected:
        raise SystemExit(f"{PAGES[language]} promises {expected}")


if __name__ == "__main__":
    main()
