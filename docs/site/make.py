#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the pages of docs/ one static site, with search, Javadoc and the C reference.

  make.py stage ROOT FOLDER     copies the pages to FOLDER/pages, as MkDocs wants them
  make.py check SITE            names each link of SITE's pages that leads nowhere

A page may link to any file of the repository: what is no page is shown as one, below source/.
"""

import html.parser
import os
import pathlib
import re
import shutil
import sys
import urllib.parse

LANGUAGES = {".h": "cpp", ".cpp": "cpp", ".cuh": "cuda", ".cu": "cuda", ".c": "c", ".java": "java",
             ".py": "python", ".sh": "bash", ".xml": "xml", ".cmake": "cmake"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))|(<(?:img|source|a)\s[^>]*?(?:src|srcset|href)=\")([^\"]+)(\")")


class Stage:
    """Copies pages, and what they link to."""

    def __init__(self, root, folder):
        self.root, self.pages = root.resolve(), folder / "pages"
        self.places = {}  # where each file of the repository stands on the site

    def run(self):
        shutil.rmtree(self.pages, ignore_errors=True)
        for name, place in (("README.md", "index.md"), ("CONTRIBUTING.md",) * 2,
                            ("CHANGELOG.md",) * 2):
            self.places[self.root / name] = place
        for file in sorted((self.root / "docs").rglob("*")):
            inside = file.relative_to(self.root / "docs")
            if file.is_file() and inside.parts[0] != "site":
                self.places[file] = inside.as_posix()
        for file, place in list(self.places.items()):
            target = self.pages / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".md":
                target.write_text(self.linked(file, place))
            else:
                shutil.copyfile(file, target)

    def linked(self, file, place):
        """The page with its links as they are on the site."""

        def moved(match):
            before, target, after = [group for group in match.groups() if group is not None]
            path, anchor = re.fullmatch(r"([^#]*)(#.*)?", target).groups()
            if re.match(r"[a-z]+:", target) or not path:
                return match[0]
            to = self.place_of((file.parent / path).resolve())
            to = os.path.relpath(to, pathlib.PurePosixPath(place).parent)
            if before.startswith("<a"):
                to = re.sub(r"\.md$", ".html", to)
            return before + to + (anchor or "") + after

        return LINK.sub(moved, file.read_text())

    def place_of(self, file):
        if file not in self.places:
            inside = file.relative_to(self.root).as_posix()
            self.places[file] = f"source/{inside}.md"
            target = self.pages / self.places[file]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source_page(file, inside))
        return self.places[file]


def source_page(file, name):
    """A file of the repository, or the names in a folder, as a page that search leaves out."""
    if file.is_dir():
        text = "\n".join(sorted(entry.name for entry in file.iterdir()))
        language = "text"
    else:
        text, language = file.read_text(), LANGUAGES.get(file.suffix, "text")
    fence = "`" * (3 + max((len(run) for run in re.findall("`{3,}", text)), default=0))
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n{fence} {language}\n{text}\n{fence}\n"


class Page(html.parser.HTMLParser):
    """The links and the anchors of an HTML page."""

    def __init__(self, file):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(file.read_text(errors="replace"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.anchors.add(value)


def broken_links(site):
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc or file.name == "404.html":
                continue
            target = file
            if url.path:
                target = pathlib.Path(os.path.normpath(file.parent / urllib.parse.unquote(url.path)))
            if target.is_dir():
                target /= "index.html"
            anchor = urllib.parse.unquote(url.fragment)
            if not target.exists():
                yield f"{file.relative_to(site)} links to {link}, which is not there"
            elif anchor and target in pages and anchor not in pages[target].anchors | {"top"}:
                yield f"{file.relative_to(site)} links to {link}, which has no such place"


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "stage":
        Stage(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])).run()
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        broken = list(broken_links(pathlib.Path(sys.argv[2])))
        print("\n".join(broken), end="\n" if broken else "")
        sys.exit(1 if broken else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
