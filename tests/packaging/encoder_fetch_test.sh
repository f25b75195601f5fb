#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# launcher/encoder.sh against a Maven and a pip that deliver, fail or lie; stand-ins for both are on
# PATH, and the expected lengths and checksums are those of small files.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/exeunt ü.XXXXXX") # where paths are not quoted, it shows
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/launcher" "$WORK/bin" "$WORK/made"
cp "$ROOT/launcher/common.sh" "$WORK/launcher/"

# The packages, and a copy of the script that expects what is in them.
python3 - "$WORK" "$ROOT/launcher/encoder.sh" <<'PYTHON'
import hashlib, io, re, sys, tarfile, zipfile
work, script = sys.argv[1:]
files = {"all-MiniLM-L6-v2.onnx": b"a model", "all-MiniLM-L6-v2.tokenizer.json": b"{}",
         "movieReviewSnippets_GroundTruth.txt": b"1\t0.5\tgood\r\n"}
with zipfile.ZipFile(work + "/made/encoder.jar", "w") as jar:
    jar.writestr("all-minilm-l6-v2.onnx", files["all-MiniLM-L6-v2.onnx"])
    jar.writestr("all-minilm-l6-v2-tokenizer.json", files["all-MiniLM-L6-v2.tokenizer.json"])
def packed(name, data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
inner = packed("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
               files["movieReviewSnippets_GroundTruth.txt"])
with open(work + "/made/reviews.tar.gz", "wb") as outer:
    outer.write(packed("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner))
text = open(script).read()
for name, data in files.items():
    text, count = re.subn(r"'%s \d+\s+[0-9a-f]{64}'" % re.escape(name),
        "'%s %d %s'" % (name, len(data), hashlib.sha256(data).hexdigest()), text)
    assert count == 1, name
open(work + "/launcher/encoder.sh", "w").write(text)
PYTHON

cat >"$WORK/bin/mvn" <<'MAVEN'
#!/usr/bin/env bash
[[ $FAKE != no-maven ]] || { echo '[ERROR] no such host'; exit 1; }
for argument in "$@"; do
  case $argument in -DoutputDirectory=*) cp "$MADE/encoder.jar" "${argument#*=}/" ;; esac
done
[[ $FAKE != truncated ]] || head -c 40 "$MADE/encoder.jar" >"${argument#*=}/encoder.jar"
MAVEN
cat >"$WORK/bin/pip3" <<'PIP'
#!/usr/bin/env bash
[[ $FAKE != no-pip ]] || { echo 'ERROR: no matching distribution' >&2; exit 1; }
while (($#)); do
  [[ $1 != --dest ]] || cp "$MADE/reviews.tar.gz" "$2/"
  shift
done
PIP
chmod +x "$WORK/bin/mvn" "$WORK/bin/pip3"

failures=0
# fetch CASE STATUS WORDS: runs the script, which ends so and says this on stderr.
fetch() {
  local status=0
  out=$(FAKE=$1 MADE=$WORK/made XDG_CACHE_HOME=$WORK/cache PATH=$WORK/bin:$PATH \
    bash "$WORK/launcher/encoder.sh" 2>"$WORK/err" </dev/null) || status=$?
  if [[ $status == "$2" && $(<"$WORK/err") == *"$3"* ]]; then
    echo "ok    $1: $status"
  else
    echo "WRONG $1 (status $status, out '$out', err '$(<"$WORK/err")')"
    failures=$((failures + 1))
  fi
}
# expect WHAT CONDITION...
expect() {
  if "${@:2}"; then
    echo "ok    $1"
  else
    echo "WRONG $1"
    failures=$((failures + 1))
  fi
}
kept=$WORK/cache/exeunt

fetch no-maven 3 'the encoder could not be downloaded ([ERROR] no such host)'
fetch no-pip 3 'the reviews could not be downloaded (ERROR: no matching distribution)'
fetch truncated 4 'could not be unpacked'
expect 'nothing is kept of what failed' test -z "$(find "$kept" -mindepth 1)"
fetch good 0 'once'
expect 'the folder is printed' test "$out" = "$kept"
expect 'the files are kept alone' test "$(find "$kept" -type f | wc -l)" = 3
fetch no-maven 0 ''
expect 'nothing is said or fetched again' test ! -s "$WORK/err"
echo more >>"$kept/all-MiniLM-L6-v2.onnx"
fetch no-maven 3 'could not be downloaded'
fetch good 0 'once'
rm "$kept/all-MiniLM-L6-v2.onnx"
sed -i "s/onnx 7 [0-9a-f]*/onnx 7 $(printf 0%.0s {1..64})/" "$WORK/launcher/encoder.sh"
fetch good 4 'the checksum of all-MiniLM-L6-v2.onnx is not the one expected'
expect 'a file of another checksum is not kept' test ! -e "$kept/all-MiniLM-L6-v2.onnx"
# A folder whose name would be commands if a shell read it again.
mkdir "$WORK/elsewhere"
hostile="$WORK/it's; touch injected #\$(touch injected)"
out=$(cd "$WORK/elsewhere" && FAKE=no-maven MADE=$WORK/made XDG_CACHE_HOME=$hostile \
  PATH=$WORK/bin:$PATH bash "$WORK/launcher/encoder.sh" 2>&1 </dev/null) || true
expect 'a folder with quotes in its name' test "${out##*: }" = \
  'the encoder could not be downloaded ([ERROR] no such host)'
expect 'nothing is left in it' test -z "$(find "$hostile/exeunt" -mindepth 1)"
expect 'its name is no command' test -z "$(find "$WORK/elsewhere" -mindepth 1)"
printf '' >"$WORK/file"
if XDG_CACHE_HOME=$WORK/file PATH=$WORK/bin:$PATH FAKE=good MADE=$WORK/made \
  bash "$WORK/launcher/encoder.sh" >/dev/null 2>"$WORK/err"; then
  failures=$((failures + 1))
fi
expect 'no place to keep it' grep -q 'cannot be kept in' "$WORK/err"
exit $((failures > 0))
