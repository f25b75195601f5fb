#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The site of the documentation: it can be made, no link of it leads nowhere, a browser finds with
its search what it has, and its pages fit on a telephone.

  site_test.py ROOT FOLDER
"""

import functools
import http.server
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SKIPPED = 3
PROBE = """<script>addEventListener('load', () => document.title = 'widths '
+ document.documentElement.scrollWidth + ' ' + innerWidth + ' '
+ document.body.dataset.mdColorScheme)</script>"""
# A window may have a least width, a frame has none.
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><title></title>
<body><iframe src="/{page}.html" style="border: 0; width: {width}px; height: 900px"
onload="document.title = this.contentDocument.title"></iframe></body>"""


class Site(http.server.SimpleHTTPRequestHandler):
    """Pages that load until a picture has come, which it does when the search has had its time."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/late":
            time.sleep(15 if "q=" in self.headers.get("Referer", "") else 1)
            self.send_response(204)
            self.end_headers()
        elif path.startswith("/frame/"):
            width, page = path[len("/frame/"):].split("/", 1)
            self.send_page(FRAME.format(width=width, page=page))
        elif path.endswith(".html"):
            page = pathlib.Path(self.directory, path[1:]).read_text()
            self.send_page(page.replace("</body>", PROBE + '<img src="/late" hidden></body>'))
        else:
            super().do_GET()

    def send_page(self, page):
        data = page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Referrer-Policy", "unsafe-url")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def made(root, folder):
    """Makes the site, with another page where Javadoc would be."""
    javadoc = folder / "javadoc"
    javadoc.mkdir()
    (javadoc / "index.html").write_text("<html><body>Javadoc</body></html>")
    done = subprocess.run([root / "launcher/docs.sh", javadoc, folder], check=False)
    if done.returncode == 3:
        print("left out: MkDocs cannot be fetched")
        sys.exit(SKIPPED)
    assert done.returncode == 0, f"docs.sh ends with {done.returncode}"
    return folder / "html"


def check_links(root, site):
    """What looks for links sees one that is broken."""
    page = site / "glossary.html"
    page.write_text(page.read_text() + '<a href="nothing.html">x</a><a href="ops.html#nothing">x</a>')
    done = subprocess.run([root / "docs/site/make.py", "check", site], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1, done
    assert done.stdout.splitlines() == [
        "glossary.html links to nothing.html, which is not there",
        "glossary.html links to ops.html#nothing, which has no such place"], done.stdout


def browse(url, dark):
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        print("left out: there is no browser")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as user:
        return subprocess.run(
            [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={user}",
             "--window-size=1400,900",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", url],
            capture_output=True, text=True, timeout=300, check=True).stdout


def check_pages(site):
    server = http.server.ThreadingHTTPServer(
        ("localhost", 0), functools.partial(Site, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://localhost:{server.server_port}"
    found = browse(f"{place}/index.html?q=stablemax", False)
    assert re.search(r'href="[^"]*/ops\.html[^"]*#stablemax" class="md-search-result__link"', found), (
        re.findall(r'class="md-search-result__meta">[^<]*', found))
    for page in ("index", "ops", "architecture", "source/native/include/exeunt/exit_head.h"):
        for width in (400, 1400):
            for dark in (False, True):
                dom = browse(f"{place}/frame/{width}/{page}", dark)
                found = re.search(r"<title>widths (\d+) (\d+) (\w+)</title>", dom)
                wide, window, scheme = int(found[1]), int(found[2]), found[3]
                assert window == width, f"{page} is shown at {window} pixels, not {width}"
                assert wide <= window, f"{page} is {wide} pixels wide in a window of {window}"
                assert scheme == ("slate" if dark else "default"), f"{page} is {scheme}"


def main():
    root, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site = made(root, folder.resolve())
    check_pages(site)
    check_links(root, site)


if __name__ == "__main__":
    main()
