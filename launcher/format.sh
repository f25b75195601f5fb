#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Formats the C++ and Java sources as .clang-format says, by a pinned, hash-checked clang-format
# under build/format.
#
#   launcher/format.sh           rewrites what is not formatted
#   launcher/format.sh --check   names it
#
# Exit status: 0 done, 1 something is not formatted, 2 another argument, 3 there is no formatter.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# shellcheck source=launcher/common.sh
source launcher/common.sh

FOLDER=build/format
TOOL=$FOLDER/clang_format/data/bin/clang-format

ensure_formatter() {
  mkdir -p build
  ensure_pinned launcher/format-requirements.txt "$FOLDER" build/format.log \
    "fetching clang-format (2 MB) into $FOLDER" ||
    die 3 'no clang-format could be fetched; see build/format.log'
}

# on_sources OPTION...: the formatter with these options over all sources.
on_sources() {
  find . \( -path ./build -o -name target -o -name '.?*' \) -prune -o -type f \
    \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.java' \) -print0 |
    xargs -0 "$TOOL" --style=file "$@"
}

case ${1:-} in
  '')
    ensure_formatter
    on_sources -i
    ;;
  --check)
    ensure_formatter
    places=$(on_sources --dry-run -Werror --ferror-limit=1 2>&1) && exit
    say 'not formatted, which ./exeunt format would mend:'
    sed -n 's|^\./\([^:]*\):.* error: .*|\1|p' <<<"$places" | sort | grep . >&2 || echo "$places" >&2
    exit 1
    ;;
  *) die 2 "format takes only --check, not '$1'" ;;
esac
