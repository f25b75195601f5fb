#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The subjects of commits: `area: verb object`, at most 72 characters (CONTRIBUTING.md).

  check_subjects.py ROOT

Ends with 3 where there is no history, as in an archive or a shallow clone.
"""

import re
import subprocess
import sys

RULED_SINCE = "cec3fdd365ccab7c4457f9f27ef6fc262b65c60f"
MOST = 72
SUBJECT = re.compile(r"[a-z0-9_]+: [a-z].*[^.]$")


def main():
    root = sys.argv[1]
    done = subprocess.run(["git", "-C", root, "log", "--no-merges", "--format=%h %s",
                           f"{RULED_SINCE}..HEAD"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"no history to look at: {done.stderr.strip()}")
        sys.exit(3)
    wrong = []
    lines = done.stdout.splitlines()
    for line in lines:
        name, _, subject = line.partition(" ")
        if len(subject) > MOST:
            wrong.append(f"{name} has {len(subject)} characters, more than {MOST}: {subject}")
        elif not SUBJECT.match(subject):
            wrong.append(f"{name} is not 'area: verb object': {subject}")
    print("\n".join(wrong) or f"{len(lines)} subjects are right")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
