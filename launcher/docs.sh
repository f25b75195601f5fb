#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the site of the documentation: the pages of docs/ with search, Javadoc and the C reference,
# which opens from a file and serves as it is. Checks every link of it.
#
#   launcher/docs.sh JAVADOC FOLDER    Javadoc is in JAVADOC, the site will be in FOLDER/html
#
# Exit status: 0 done, 1 a page is broken, 3 what makes pages cannot be had.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# shellcheck source=launcher/common.sh
source launcher/common.sh

PYTHON=build/site/python
JAVADOC=$1
FOLDER=$2

# The reference of the C headers, in folder $1.
c_reference() {
  doxygen - >"$FOLDER/doxygen.log" 2>&1 <<TEXT
PROJECT_NAME = "exeunt C API"
INPUT = native/include/exeunt
FILE_PATTERNS = *.h
STRIP_FROM_PATH = native/include
OUTPUT_DIRECTORY = $1
HTML_OUTPUT = .
GENERATE_LATEX = NO
OPTIMIZE_OUTPUT_FOR_C = YES
TYPEDEF_HIDES_STRUCT = YES
EXTRACT_ALL = YES
JAVADOC_AUTOBRIEF = YES
MARKDOWN_SUPPORT = YES
HAVE_DOT = NO
ENABLE_PREPROCESSING = YES
MACRO_EXPANSION = YES
EXPAND_ONLY_PREDEF = YES
PREDEFINED = EXN_API=
HTML_COLORSTYLE_SAT = 0
QUIET = YES
WARNINGS = YES
TEXT
}

have doxygen || die 3 'no doxygen here: it makes the C reference'
mkdir -p "$FOLDER" build/site
ensure_pinned launcher/docs-requirements.txt "$PYTHON" build/site/pip.log \
  "fetching MkDocs (30 MB) into $PYTHON" || die 3 'no MkDocs could be fetched; see build/site/pip.log'
python3 docs/site/make.py stage . "$FOLDER"
cp -R "$JAVADOC" "$FOLDER/pages/javadoc"
c_reference "$FOLDER/pages/c" || die 1 "no C reference could be made; see $FOLDER/doxygen.log"
# The file says where the pages are as seen from itself.
cp docs/site/mkdocs.yml "$FOLDER/mkdocs.yml"
NO_MKDOCS_2_WARNING=1 PYTHONPATH=$PYTHON python3 -m mkdocs build --strict --quiet --clean \
  --config-file "$FOLDER/mkdocs.yml" || die 1 'a page is broken; the reason is above'
python3 docs/site/make.py check "$FOLDER/html" || die 1 'links lead nowhere; they are named above'
