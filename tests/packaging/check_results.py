#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/results: each op has a row, each page names what it is of, and none is stale.

  check_results.py ROOT

A page is stale if it is of more than 150 commits ago and a kernel has changed since. Without the
history, as in a shallow clone or a tarball, that is not known: status 3, after all else was checked.
"""

import pathlib
import re
import subprocess
import sys

import check_op_lists
import elf

MOST_COMMITS = 150
KERNELS = ("native/src/cpu", "cuda")
FACTS = ("CPU", "commit", "date", "load average")


def facts_of(page):
    """The table on top."""
    head = page.split("\n## ")[0]
    return {name: value.strip() for name, value in re.findall(r"^\| ([^|]+) \| (.*) \|$", head, re.M)}


def rows_of(page):
    """Ops with the number of their rows."""
    rows = {}
    for name, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S):
        rows[name] = max(0, len(re.findall(r"^\|", section, re.M)) - 2)
    return rows


class History:
    """What git knows; None as an answer where it does not."""

    def __init__(self, root):
        self.root = root
        inside = self.git("rev-parse", "--show-toplevel")
        self.known = inside is not None and pathlib.Path(inside).resolve() == root.resolve()

    def git(self, *words):
        try:
            done = subprocess.run(["git", "-C", self.root, *words], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def since(self, commit):
        """How many commits, and which files of kernels changed in them."""
        if not self.known or self.git("merge-base", "--is-ancestor", commit, "HEAD") is None:
            return None
        changed = self.git("diff", "--name-only", commit, "HEAD", "--", *KERNELS)
        return int(self.git("rev-list", "--count", f"{commit}..HEAD")), changed.split()


def main():
    root = pathlib.Path(sys.argv[1])
    folder = root / "docs/results"
    problems, unknown, rows = elf.Problems(), [], {}
    history = History(root)
    for path in sorted(folder.rglob("*.md")):
        if path.name == "README.md":
            continue
        name, page = path.relative_to(root), path.read_text()
        facts = facts_of(page)
        for fact in FACTS:
            problems.expect(facts.get(fact), f"{name} does not say its {fact}")
        if path.parent != folder:
            continue  # of earlier
        for op, count in rows_of(page).items():
            rows[op] = rows.get(op, 0) + count
        commit = re.match(r"[0-9a-f]{7,40}", facts.get("commit", ""))
        problems.expect(commit, f"{name} is of no commit: '{facts.get('commit', '')}'")
        since = history.since(commit[0]) if commit else None
        if commit and since is None:
            unknown.append(f"{name} ({commit[0]})")
        elif commit:
            count, changed = since
            problems.expect(count <= MOST_COMMITS or not changed,
                            f"{name} is of {count} commits ago, and {len(changed)} files of kernels, "
                            f"{changed[:1]} among them, changed since: run './exeunt bench' again, or "
                            "move it to docs/results/earlier")
    for op, *_ in check_op_lists.ops_of(root):
        problems.expect(rows.get(op), f"no page in docs/results has a row of {op}")
    if problems.found or not unknown:
        print(f"{len(rows)} sections, {sum(rows.values())} rows")
        problems.finish()
    print(f"SKIPPED: the history does not tell how old these pages are: {', '.join(unknown)}")
    sys.exit(3)


if __name__ == "__main__":
    main()
