#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What pages link to and show exists, the options that they show are in the help, each picture is
shown, all of them are small, and README.md is short. What GitHub's workflows run exists, and they
test every platform that is published.

  check_docs.py ROOT
"""

import os
import pathlib
import re
import subprocess
import sys

README_LINES = 130
MOST_PICTURE_BYTES = 600_000


def anchors(text):
    """GitHub's names of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
            for heading in headings}


def targets(text):
    """What a page links to, and the pictures that it shows."""
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"<(?:img|source)\s[^>]*?src(?:set)?=\"([^\"]+)", text)


def broken_links(page):
    text = page.read_text()
    for target in targets(text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"links to {target}, which is not there"
        elif anchor and anchor not in anchors(file.read_text()):
            yield f"links to {target}, which has no such heading"


def idle_pictures(root, pages):
    """Pictures that no page shows, and their size if it is too large."""
    shown = {(page.parent / target).resolve() for page in pages for target in targets(page.read_text())}
    pictures = sorted(root.glob("docs/images/*.webp"))
    for picture in pictures:
        if picture not in shown:
            yield f"{picture.relative_to(root)} is shown by no page"
    size = sum(picture.stat().st_size for picture in pictures)
    if size > MOST_PICTURE_BYTES:
        yield f"the pictures in docs/images have {size} bytes, more than {MOST_PICTURE_BYTES}"


class Help:
    """The options of each command of the launcher, as its help pages have them."""

    def __init__(self, root):
        self.root, self.known = root, {}

    def options(self, command):
        if command not in self.known:
            done = subprocess.run([self.root / "exeunt", command, "--help"], capture_output=True,
                                  text=True, check=False)
            overview = subprocess.run([self.root / "exeunt", "help"], capture_output=True, text=True,
                                      check=True).stdout
            named = re.search(rf"^  \./exeunt {command}\b.*?(?=^  \./exeunt|^\S)", overview,
                              flags=re.M | re.S)
            if not named:
                return None
            self.known[command] = set(re.findall(r"--[a-z][a-z-]*", done.stdout + named[0]))
        return self.known[command]


def unknown_options(page, help_pages):
    text = page.read_text().replace("\\\n", " ")
    for command, line in re.findall(r"\./exeunt ([a-z]+)((?: [^`\n]*)?)", text):
        known = help_pages.options(command)
        if known is None:
            yield f"shows ./exeunt {command}, which help does not have"
            continue
        words = re.sub(r"\"[^\"]*\"|\s#.*", "", line)
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", words):
            if option not in known:
                yield f"shows ./exeunt {command} {option}, which its help does not have"


def wrong_workflows(root, help_pages):
    tested = set()
    for page in sorted(root.glob(".github/workflows/*.yml")):
        name, text = page.relative_to(root), page.read_text()
        yield from (f"{name} {what}" for what in unknown_options(page, help_pages))
        for program, words in re.findall(r"((?:tests|launcher)/[\w/.]+\.(?:py|sh))(.*)", text):
            known = (root / program).read_text() if os.access(root / program, os.X_OK) else None
            if known is None:
                yield f"{name} runs {program}, which is no program here"
            else:
                yield from (f"{name} gives {program} {option}, which it does not have"
                            for option in re.findall(r"--[a-z-]+", words) if option not in known)
        tested.update(re.findall(r"\bplatform: ([\w-]+)", text))
    published = set(re.findall(r"<javacpp\.platform\.([^>]*)>", (root / "platform/pom.xml").read_text()))
    if tested != published - {"linux-x86_64"}:  # which is tested by `./exeunt test --all`
        yield f"the workflows test {sorted(tested)}, and published are {sorted(published)}"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted(root.glob("docs/**/*.md"))]
    help_pages = Help(root)
    wrong = [f"{page.relative_to(root)} {what}" for page in pages
             for what in (*broken_links(page), *unknown_options(page, help_pages))]
    wrong += [*idle_pictures(root, pages), *wrong_workflows(root, help_pages)]
    lines = len(pages[0].read_text().splitlines())
    if lines > README_LINES:
        wrong.append(f"README.md has {lines} lines, more than {README_LINES}")
    print("\n".join(wrong) or f"{len(pages)} pages are right")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
