#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the pictures of this folder from pages that the commands have written.

  docs/images/take.py NAME=PAGE...

NAME is bench, evaluate or demo, PAGE the HTML page of a run. Each is shown by a headless Chromium in
light and in dark, bench on a telephone too: of bench and evaluate the head, of demo the charts.
Fails where all pictures together are larger than 600 kB.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = 1240, 400
MOST_BYTES = 600_000
MOST_HEIGHT = 2600
# What of a page is not shown.
HIDDEN = {
    "bench": "section:nth-of-type(n+2), footer, nav {display: none}",
    "evaluate": "section:not(:first-of-type), .scroll, h3 {display: none}",
    "demo": """body > :not(figure, h1) {display: none} @media (min-width: 30rem) {
      body {max-width: none} figure:not(.wide) {display: inline-block; width: 24rem !important;
      margin: 0 .5rem .5rem 0; vertical-align: top}}""",
}
HEIGHT = """<script>
document.title = 'height ' + Math.ceil(document.body.getBoundingClientRect().bottom + 16)
</script>"""


def browse(page, folder, width, height, dark, *options):
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        sys.exit(f"there is no browser: {', '.join(BROWSERS)}")
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={folder}/user", f"--window-size={width},{height}",
         f"--blink-settings=preferredColorScheme={0 if dark else 1}", *options, page.as_uri()],
        capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def take(name, source, width, dark, most):
    """A picture as high as the page, or as `most`."""
    text = source.read_text().replace("</head>", f"<style>{HIDDEN[name]}</style></head>")
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder, "page.html")
        page.write_text(text.replace("style-src", "script-src 'unsafe-inline'; style-src")
                        .replace("</body>", HEIGHT + "</body>"))
        dom = browse(page, folder, width, 900, dark, "--dump-dom")
        height = min(most, int(re.search(r"<title>height (\d+)</title>", dom)[1]))
        kind = ("narrow-" if width == NARROW else "") + ("dark" if dark else "light")
        file = HERE / f"{name}-{kind}.webp"
        browse(page, folder, width, height, dark, f"--screenshot={file}")
    print(f"{file.name}: {width} x {height}, {file.stat().st_size} bytes")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for word in sys.argv[1:]:
        name, _, page = word.partition("=")
        source = pathlib.Path(page)
        if name not in HIDDEN or not source.is_file():
            sys.exit(f"{word}: not one of {', '.join(HIDDEN)}, or its page is not there")
        for dark in (False, True):
            take(name, source, WIDE, dark, MOST_HEIGHT)
        if name == "bench":
            take(name, source, NARROW, True, 900)
    size = sum(file.stat().st_size for file in HERE.glob("*.webp"))
    if size > MOST_BYTES:
        sys.exit(f"the pictures have {size} bytes, more than {MOST_BYTES}")


if __name__ == "__main__":
    main()
