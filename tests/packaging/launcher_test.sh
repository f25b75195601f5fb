#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The launcher's answers that need no build: help, wrong commands, missing packages, no network for
# the CUDA compiler, and how it hands a command line to a program that is built. Runs on stand-ins
# for apt-get, pip, nvcc, Maven and java, and changes nothing outside a scratch folder.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/bin" "$WORK/tree"
cp -r "$ROOT/exeunt" "$ROOT/launcher" "$WORK/tree/"

failures=0
input=/dev/null
# attempt COMMAND...: gives it $input, leaves $status and $out (both streams).
attempt() {
  status=0
  out=$("$@" 2>&1 <"$input") || status=$?
}
# expect WHAT STATUS TEXT
expect() {
  if [[ $status == "$2" && $out == *"$3"* ]]; then
    echo "ok    $1"
  else
    echo "WRONG $1: status $status, not $2, or no '$3' in: $out"
    failures=$((failures + 1))
  fi
}

for file in "$ROOT/exeunt" "$ROOT/.ci/run" "$ROOT"/launcher/*.sh "$ROOT"/tests/packaging/*.sh; do
  attempt bash -n "$file"
  expect "${file#"$ROOT/"} parses" 0 ''
  if command -v shellcheck >/dev/null; then
    attempt env --chdir="$ROOT" shellcheck -x "$file"
    expect "${file#"$ROOT/"} is clean" 0 ''
  fi
done

attempt "$ROOT/exeunt" help
expect 'help' 0 './exeunt demo'
attempt "$ROOT/exeunt" dance
expect 'unknown command' 2 './exeunt demo'
attempt "$ROOT/exeunt" test --fast
expect 'unknown option' 2 "not '--fast'"
attempt "$ROOT/exeunt" doctor
expect 'doctor' 0 'nvcc'
attempt "$ROOT/exeunt" doctor --all
expect 'an option where there is none' 2 "not '--all'"
# shellcheck disable=SC2016  # the last line of .ci/run, as it stands there
attempt grep -qxF 'cd "$(dirname "${BASH_SOURCE[0]}")/.." && exec ./exeunt test' "$ROOT/.ci/run"
expect 'CI runs what the README says' 0 ''

# with_launcher CODE: the launcher's functions in the scratch tree, with our stand-ins before others
# on PATH.
with_launcher() {
  attempt env -u CUDA_HOME -u CUDA_PATH PATH="$WORK/bin:$PATH" ROOT="$WORK/tree" bash -c "
    set -euo pipefail
    source \"\$ROOT/launcher/common.sh\"
    source \"\$ROOT/launcher/packages.sh\"
    source \"\$ROOT/launcher/cuda.sh\"
    system_nvcc() { :; }
    $1"
}
printf '#!/bin/sh\nexit 100\n' >"$WORK/bin/apt-get"
printf '#!/bin/sh\necho "ERROR: no network" >&2\nexit 1\n' >"$WORK/bin/pip3"
chmod +x "$WORK"/bin/*

with_launcher "ensure_packages 'command sh:dash'"
expect 'nothing missing, nothing done' 0 ''
with_launcher "ensure_packages 'command no-such-tool:no-such-package'"
expect 'a missing package that cannot be had' 2 'no-such-package'
with_launcher "have() { [[ \$1 != apt-get ]] && command -v \"\$1\" >/dev/null; }
  ensure_packages 'command no-such-tool:no-such-package'"
expect 'a missing package on another system' 2 'please install'
with_launcher ensure_cuda
expect 'no network for the CUDA compiler' 0 'building for the CPU only'
with_launcher 'uname() { echo Linux riscv64; }; ensure_cuda'
expect 'no CUDA compiler for this machine' 0 'building for the CPU only'
# shellcheck disable=SC2016  # expands inside with_launcher
with_launcher '[[ ! -e $CUDA_TOOLKIT ]]'
expect 'no half toolkit is left' 0 ''
# shellcheck disable=SC2016
with_launcher 'jdk_major() { echo 11; }; missing_packages "${BUILD_NEEDS[@]}"'
expect 'an old JDK is not enough' 0 'openjdk-17-jdk-headless'

# generate on a tree that counts as built. GenerateTest holds what the program itself says to a
# prompt that is too long, foreign or broken models and senseless options; here, that its sentence
# and its status 2 arrive, and that a model is fetched only where none was named.
mkdir -p "$WORK"/tree/{cmake,native,cuda,jni-gen,java,examples/target}
touch "$WORK"/tree/{pom.xml,CMakeLists.txt}
echo the-class-path >"$WORK/tree/examples/target/classpath.txt"
cat >"$WORK/bin/java" <<'JAVA'
#!/bin/sh
echo "$LC_ALL: $*" >"$SAID"
cat >>"$SAID"
echo "generate: unknown option '--fast'" >&2
exit 2
JAVA
chmod +x "$WORK/bin/java"
# generate NAME=VALUE... OPTION...: leaves what java was told in $told as well.
generate() {
  local settings=()
  while [[ ${1:-} == *=* ]]; do
    settings+=("$1")
    shift
  done
  rm -f "$WORK/said"
  attempt env -u JAVA_HOME -u EXEUNT_MODEL PATH="$WORK/bin:$PATH" SAID="$WORK/said" \
    XDG_CACHE_HOME="$WORK/cache" "${settings[@]}" "$WORK/tree/exeunt" generate "$@"
  told=$(cat "$WORK/said" 2>/dev/null || true)
}
expect_told() {
  if [[ $told == "$2" ]]; then
    echo "ok    $1"
  else
    echo "WRONG $1: java was told: $told"
    failures=$((failures + 1))
  fi
}
main='C.UTF-8: --enable-native-access=ALL-UNNAMED -Dorg.bytedeco.javacpp.maxPhysicalBytes=0'
main+=' -cp the-class-path org.exeunt.examples.Generate'

generate --model own.gguf --prompt 'two words' --fast
expect 'generate refuses with one sentence' 2 "generate: unknown option '--fast'"
[[ $out != *$'\n'* ]] || status='2, but with more than a sentence'
expect 'generate adds nothing to it' 2 ''
expect_told 'generate hands its options on' "$main --model own.gguf --prompt two words --fast"
generate --help
expect_told 'generate --help needs no model' "$main --help"
generate EXEUNT_MODEL="$WORK/bin/java" --prompt a
expect_told 'generate takes EXEUNT_MODEL' "$main --model $WORK/bin/java --prompt a"
generate EXEUNT_MODEL="$WORK/absent.gguf" --prompt a
expect 'generate without its model' 3 'cannot read'
expect_told 'generate without its model runs nothing' ''
generate --prompt a
expect 'generate without network' 3 'could not be downloaded'

# On a tree that has to be built first, by a build that reads all it is given.
printf '#!/bin/sh\ncat\n' >"$WORK/bin/mvn"
chmod +x "$WORK/bin/mvn"
touch -d tomorrow "$WORK/tree/pom.xml"
input=$WORK/prompt
echo 'from standard input' >"$input"
generate --model own.gguf --prompt -
expect_told 'a build leaves the prompt alone' "$main --model own.gguf --prompt -
from standard input"

exit $((failures > 0))
