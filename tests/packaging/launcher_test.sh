#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The launcher's answers that need no build: help, wrong commands and settings, missing packages, no
# network for the CUDA compiler, two builds at once, and how it hands a command line to a program
# that is built. Runs on stand-ins for apt-get, pip, nvcc, Maven and java, and changes nothing
# outside a scratch folder.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/exeunt ü.XXXXXX") # where paths are not quoted, it shows
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/bin" "$WORK/tree/tests/fuzz"
cp -r "$ROOT/exeunt" "$ROOT/launcher" "$WORK/tree/"
cp "$ROOT/tests/fuzz/run" "$WORK/tree/tests/fuzz/"
for module in engine examples/spark bench; do
  mkdir -p "$WORK/tree/$module/src/main/resources"
  cp -r "$ROOT/$module/src/main/resources/help" "$WORK/tree/$module/src/main/resources/"
done
cp -r "$ROOT/bench/decode" "$WORK/tree/bench/"

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

for file in "$ROOT/exeunt" "$ROOT/.ci/run" "$ROOT"/launcher/*.sh "$ROOT"/tests/packaging/*.sh \
  "$ROOT/tests/fuzz/run" "$ROOT/jlama/compare"; do
  attempt bash -n "$file"
  expect "${file#"$ROOT/"} parses" 0 ''
  if command -v shellcheck >/dev/null; then
    attempt env --chdir="$ROOT" shellcheck -x "$file"
    expect "${file#"$ROOT/"} is clean" 0 ''
  fi
done

# What the launcher starts by its name.
for file in $(cd "$ROOT" && grep -ohE '(tests/packaging|launcher)/[a-z_]+\.py' exeunt launcher/*.sh |
  grep -vE '/platform_jar\.py' | sort -u); do
  attempt test -x "$ROOT/$file"
  expect "$file may be run" 0 ''
done

attempt "$ROOT/exeunt" help
expect 'help' 0 './exeunt demo'
attempt "$ROOT/exeunt" --version
expect 'version' 0 "exeunt $(sed -n 's|^ *<revision>\(.*\)</revision>$|\1|p' "$ROOT/pom.xml") ("
attempt "$ROOT/exeunt" dance
expect 'unknown command' 2 './exeunt demo'
attempt "$ROOT/exeunt" test --fast
expect 'unknown option' 2 "not '--fast'"
attempt "$ROOT/exeunt" doctor
expect 'doctor' 0 'nvcc'
attempt "$ROOT/exeunt" doctor --all
expect 'an option where there is none' 2 "not '--all'"
attempt env -u HOME -u XDG_CACHE_HOME EXEUNT_THREADS=many "$ROOT/exeunt" doctor
expect 'doctor without HOME' 0 'missing, test'
expect 'doctor on settings' 0 "EXEUNT_THREADS is 'many', not a number from 1 to 256"

# Settings that make no sense, before anything is built.
senseless() {
  attempt env -u JAVA_HOME "$1" "$ROOT/exeunt" "$2"
  expect "$1" 2 "$3"
  [[ $out == "exeunt: "* && $out != *$'\n'* ]] || status='2, but not one sentence'
  expect "$1 is told in one sentence" 2 ''
}
senseless EXEUNT_JOBS=abc build "EXEUNT_JOBS is 'abc', not a number from 1 to 9999"
senseless EXEUNT_JOBS=0 test "EXEUNT_JOBS is '0'"
senseless EXEUNT_THREADS=abc demo "EXEUNT_THREADS is 'abc', not a number from 1 to 256"
senseless EXEUNT_THREADS=257 generate "EXEUNT_THREADS is '257'"
senseless EXEUNT_BACKEND=nonsense bench "EXEUNT_BACKEND is 'nonsense', not cpu or cuda"
senseless EXEUNT_ISA=sse9 demo "EXEUNT_ISA is 'sse9', not baseline, avx2"
senseless JAVA_HOME=/no/such/jdk build "JAVA_HOME is '/no/such/jdk', where there is no JDK"
mkdir -p "$WORK/jdk/bin"
printf '#!/bin/sh\necho "javac 11.0.2"\n' | tee "$WORK/jdk/bin/javac" >"$WORK/jdk/bin/java"
chmod +x "$WORK"/jdk/bin/*
senseless "JAVA_HOME=$WORK/jdk" build 'a JDK 11: 17 or newer is needed'
# Empty ones say nothing, nor does one that is right.
# shellcheck disable=SC2016  # expands in the shell that is started
settings='source "$ROOT/launcher/common.sh"; source "$ROOT/launcher/packages.sh"
  source "$ROOT/launcher/settings.sh"; check_settings'
attempt env JAVA_HOME='' EXEUNT_JOBS='' EXEUNT_THREADS=256 EXEUNT_BACKEND='' EXEUNT_ISA=amx \
  ROOT="$ROOT" bash -c "$settings"
expect 'settings that make sense' 0 ''
[[ -z $out ]] || status="0, but it says $out"
expect 'settings that make sense need no word' 0 ''
# shellcheck disable=SC2016  # the last line of .ci/run, as it stands there
attempt grep -qxF 'cd "$(dirname "${BASH_SOURCE[0]}")/.." && exec ./exeunt test --all' "$ROOT/.ci/run"
expect 'CI runs all tests' 0 ''

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
with_launcher "have() { [[ \$1 == apt-get ]]; }; ensure_browser"
expect 'a browser that cannot be had' 0 'no test looks at the pages'
with_launcher "have() { [[ \$1 != apt-get ]] && command -v \"\$1\" >/dev/null; }
  ensure_packages 'command no-such-tool:no-such-package'"
expect 'a missing package on another system' 2 'please install'
with_launcher ensure_cuda
expect 'no network for the CUDA compiler' 0 'building for the CPU only'
with_launcher ensure_cuda_headers
expect "no network for CUDA's headers" 0 'the emulated device is left out'
with_launcher 'uname() { echo Linux riscv64; }; ensure_cuda'
expect 'no CUDA compiler for this machine' 0 'building for the CPU only'
# shellcheck disable=SC2016  # expands inside with_launcher
with_launcher '[[ ! -e $CUDA_TOOLKIT ]]'
expect 'no half toolkit is left' 0 ''
# shellcheck disable=SC2016
with_launcher 'jdk_major() { echo 11; }; missing_packages "${BUILD_NEEDS[@]}"'
expect 'an old JDK is not enough' 0 'openjdk-17-jdk-headless'

# shellcheck disable=SC2016
with_launcher 'source "$ROOT/launcher/peer.sh"; ensure_peer'
expect 'no network for llama.cpp' 3 'llama.cpp could not be fetched'
# shellcheck disable=SC2016
with_launcher '[[ ! -e $ROOT/build/peer ]]'
expect 'no half peer is left' 0 ''

# shellcheck disable=SC2016
with_launcher 'source "$ROOT/launcher/ort.sh"; ensure_ort || exit 3'
expect 'no network for ONNX Runtime' 3 'ONNX Runtime could not be fetched'

# The formatter, on a tree with one source.
printf 'int  f( );\n' >"$WORK/tree/native.cpp"
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/launcher/format.sh" --check
expect 'no network for the formatter' 3 'no clang-format could be fetched'
attempt "$WORK/tree/exeunt" format --fast
expect 'format refuses an option' 2 "not '--fast'"
if [[ -d $ROOT/build/format ]]; then
  cp "$ROOT/.clang-format" "$WORK/tree/"
  cp -r "$ROOT/build/format" "$WORK/tree/build/"
  attempt "$WORK/tree/launcher/format.sh" --check
  expect 'a source that is not formatted' 1 native.cpp
  attempt "$WORK/tree/exeunt" format
  expect 'format' 0 ''
  attempt "$WORK/tree/launcher/format.sh" --check
  expect 'a source that is formatted' 0 ''
fi

# generate on a tree that counts as built. GenerateTest holds what the program itself says to a
# prompt that is too long, foreign or broken models and senseless options; here, that its sentence
# and its status 2 arrive, and that a model is fetched only where none was named.
mkdir -p "$WORK"/tree/{cmake,native,cuda,jni-gen,java,cli/target,ops,engine/target,bench/target}
touch "$WORK"/tree/{pom.xml,CMakeLists.txt}
echo the-class-path | tee "$WORK"/tree/{cli,engine,bench}/target/classpath.txt >/dev/null
cat >"$WORK/bin/java" <<'JAVA'
#!/bin/sh
echo "$(locale charmap): $*" >"$SAID"
cat >>"$SAID"
echo "generate: unknown option '--fast'" >&2
exit 2
JAVA
chmod +x "$WORK/bin/java"
# started COMMAND NAME=VALUE... OPTION...: leaves what java was told in $told as well.
started() {
  local command=$1 settings=()
  shift
  while [[ ${1:-} == *=* ]]; do
    settings+=("$1")
    shift
  done
  rm -f "$WORK/said"
  attempt env -u JAVA_HOME -u EXEUNT_MODEL --chdir="$WORK" LC_ALL=C PATH="$WORK/bin:$PATH" \
    SAID="$WORK/said" XDG_CACHE_HOME="$WORK/cache" "${settings[@]}" "$WORK/tree/exeunt" "$command" "$@"
  told=$(cat "$WORK/said" 2>/dev/null || true)
}
generate() { started generate "$@"; }
expect_told() {
  if [[ $told == "$2" ]]; then
    echo "ok    $1"
  else
    echo "WRONG $1: java was told: $told"
    failures=$((failures + 1))
  fi
}
program='--enable-native-access=ALL-UNNAMED -Dorg.bytedeco.javacpp.maxPhysicalBytes=0'
program+=' -cp the-class-path org.exeunt'
soon='-XX:+UseSerialGC -Xmn8m -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xlog:disable'
main="UTF-8: $soon $program.engine.cli.Generate"

generate --model own.gguf --prompt 'two words' --raw
expect 'generate refuses with one sentence' 2 "generate: unknown option '--fast'"
[[ $out != *$'\n'* ]] || status='2, but with more than a sentence'
expect 'generate adds nothing to it' 2 ''
expect_told 'generate hands its options on, and files as seen from the user' \
  "$main --model $WORK/own.gguf --prompt two words --raw"
generate --model own.gguf --prompt a --speculate model:small.gguf
expect_told 'generate knows a second model from here' \
  "$main --model $WORK/own.gguf --prompt a --speculate model:$WORK/small.gguf"
generate --model /own.gguf --prompt a --draft-rule specdec:head,0.5
expect_told 'generate knows an acceptance head from here' \
  "$main --model /own.gguf --prompt a --draft-rule specdec:$WORK/head,0.5"
generate --model /own.gguf --prompt --help
expect_told 'a prompt may be --help' "$main --model /own.gguf --prompt --help"
generate --model /own.gguf --prompt a --system --verify
expect_told 'what a system says may be --verify' \
  "$main --model /own.gguf --prompt a --system --verify"
evaluate="UTF-8: $program.Evaluate"
evaluate=${evaluate/exeunt.Evaluate/exeunt.engine.cli.Evaluate}
started evaluate --model own.gguf --method '--speculate model:small.gguf --draft-rule fixed:4'
expect_told 'evaluate knows the files of a method from here' \
  "$evaluate --model $WORK/own.gguf --method --speculate 'model:$WORK/small.gguf' --draft-rule fixed:4"
started evaluate --model /own.gguf \
  --method "--speculate 'lookup+model:two words.gguf' --draft-translators \"it's\" --exit ''"
expect_told 'evaluate knows files with blanks and quotes' "$evaluate --model /own.gguf --method \
--speculate 'lookup+model:$WORK/two words.gguf' --draft-translators \"$WORK/it's\" --exit ''"
started score --choices own.jsonl --model /own.gguf
expect_told 'score knows its files from here' \
  "${evaluate%Evaluate}Score --choices $WORK/own.jsonl --model /own.gguf"
started evaluate --model /own.gguf --method '--exit fixed:2'
expect_told 'evaluate leaves other methods as they are' \
  "$evaluate --model /own.gguf --method --exit fixed:2"
generate EXEUNT_MODEL="$WORK/bin/java" --prompt a
expect_told 'generate takes EXEUNT_MODEL' "$main --model $WORK/bin/java --prompt a"
generate EXEUNT_MODEL=bin/java --prompt a
expect_told 'generate takes EXEUNT_MODEL from here' "$main --model $WORK/bin/java --prompt a"
generate EXEUNT_MODEL="$WORK/absent.gguf" --prompt a
expect 'generate without its model' 3 'cannot read'
expect_told 'generate without its model runs nothing' ''
generate --verify --model own.gguf --prompt a
expect 'generate cannot verify a file of the user' 2 'not that of own.gguf'
generate EXEUNT_MODEL="$WORK/bin/java" --prompt --verify --verify
expect_told 'generate verifies, and a prompt may be --verify' \
  "$main --verify --model $WORK/bin/java --prompt --verify"
generate --prompt a
expect 'generate without network' 3 'could not be downloaded'
generate --model gemma3 --prompt a
expect 'generate without network, by name' 3 'Gemma Terms of Use'
expect 'generate without network, by name' 3 'could not be downloaded'
expect_told 'generate without the model that was named runs nothing' ''
started bench --compare a.json /b.json --filter gate
expect_told 'runs are compared without a build, and seen from the user' \
  "UTF-8: $program.bench.Main --compare $WORK/a.json /b.json --filter gate"

started completion
completion='-cp the-class-path org.exeunt.cli.Completion engine/src/main/resources/help/decode-figures.txt'
[[ $told == *"$completion "*" bench/src/main/resources/help/bench.txt "*'./exeunt generate --prompt TEXT'* ]] ||
  status='2, but java was told otherwise'
expect 'completion is made of the help pages, without a build' 2 "generate: unknown option '--fast'"

started bench --decode --steps 0 --fetch-peers
expect 'bench --decode refuses with one sentence' 2 "bench --decode: argument --steps: '0' is no"
[[ $out != *$'\n'* ]] || status='2, but with more than a sentence'
expect 'bench --decode fetches nothing then' 2 ''
touch "$WORK/own.gguf"
started bench --decode --model own.gguf --text own.gguf
expect 'bench --decode says what java said' 1 "bench --decode: generate: unknown option '--fast'"
expect_told 'bench --decode hands the model on, as seen from the user' \
  "${main/Generate/DecodeFigures} tokens --model $WORK/own.gguf --text ${told##* --text }"

# Options that make no sense, on a tree that has to be built first: before it is.
printf '#!/bin/sh\necho a build began\nexit 1\n' >"$WORK/bin/mvn"
chmod +x "$WORK/bin/mvn"
touch -d tomorrow "$WORK/tree/pom.xml"
refused() {
  started "${@:2}"
  expect "${*:2} is refused at once" 2 "$1"
  [[ $out == "exeunt: $2: "* && $out != *$'\n'* && -z $told ]] || status='2, but not one sentence'
  expect "${*:2} is refused in one sentence" 2 ''
}
refused "unknown option '--foo'" demo --foo
refused '--threads needs a value' demo --quick --threads
refused "unknown option '--promt'" generate --promt x
refused "'x' is not an option" generate --prompt a x
refused "--model needs a value" generate --prompt a --model
refused "unknown option '--'" generate --prompt a -- b
refused "unknown option '--\$(touch x)'" generate "--\$(touch x)"
refused "unknown option '--raw --chat'" generate '--raw --chat'
refused '--method needs a value' evaluate --method
refused "--method '--exit' has an option" evaluate --method --exit
refused "--method '--fast 2' has an option" evaluate --method '--fast 2'
refused "unknown option '--exit'" evaluate --exit fixed:2
refused "--method '--exit 'a': a quote has no end" evaluate --method "--exit 'a"
refused "unknown option '--fast'" spark --fast
refused "unknown option '--quik'; did you mean --quick?" bench --quik
refused '--compare needs 2 values' bench --compare a.json
refused "unknown option '--filt'; did you mean --filter?" bench --compare a b --filt gate
refused "unknown option '--model=own.gguf'; did you mean --model?" generate --raw --model=own.gguf
refused "unknown option '--prom'; did you mean --prompt?" generate --prom x

# A release that makes no sense, or of a tree that is not ready for one. The stand-in of the tree is in
# no git, and has neither a changelog nor a record of its ABI.
mkdir -p "$WORK/tree/platform" "$WORK/taken"
sed -n '/<revision>/p' "$ROOT/pom.xml" >"$WORK/tree/pom.xml"
touch -d tomorrow "$WORK/tree/pom.xml"
cp "$ROOT/platform/pom.xml" "$WORK/tree/platform/"
sed -n '/^project(/p' "$ROOT/CMakeLists.txt" >"$WORK/tree/CMakeLists.txt"
touch "$WORK/taken/file"
number=$(sed -n 's|^ *<revision>\([0-9.]*\).*|\1|p' "$ROOT/pom.xml")
refused '--stage FOLDER says where the release goes' release
refused 'expected one argument' release --stage
refused "unknown option '--partal'" release --stage new --partal
refused "unknown option 'x'" release --stage new x
refused '--stage taken is there already, and not an empty folder' release --stage taken
refused '--stage taken/file is there already' release --stage taken/file
refused "--version '1.2' is no semantic version" release --stage new --version 1.2
refused "--version '1.02.0' is no semantic version" release --stage new --version 1.02.0
refused "--version '$number-SNAPSHOT' is no semantic version" release --stage new --version "$number-SNAPSHOT"
refused "--version '9.9.9' is not that of the C library, $number" release --stage new --version 9.9.9
refused "--key 'nobody' is no secret key" release --stage new --key nobody
refused '--previous taken is no repository' release --stage new --previous taken
refused "CHANGELOG.md has no heading '## $number'" release --stage new
refused "native/abi/$number.txt is not recorded" release --stage new
refused 'git knows of changes that are not committed' release --stage new
[[ ! -e $WORK/new ]] || status='2, but it is there'
expect 'a release that is refused leaves no folder' 2 ''
started release --stage new --partial
expect 'a release in part builds such a tree' 1 'the build failed; the log is build/release.log'
# A platform that there is not, or another option beside it.
platforms='linux-arm64 macosx-arm64 macosx-x86_64 windows-x86_64'
refused "--platform needs a name: $platforms" test --platform
refused "--platform 'amiga' is none of $platforms" test --platform amiga
refused "--platform '' is none of $platforms" test --platform ''
refused "--platform 'linux-arm64 macosx-arm64' is none of" test --platform 'linux-arm64 macosx-arm64'
refused "test: takes one option, not '--platform linux-arm64 --all'" test --platform linux-arm64 --all
refused "test: takes one option, not '--all --platform linux-arm64'" test --all --platform linux-arm64
attempt env ROOT="$WORK/tree" "$WORK/tree/launcher/release.py" platforms
expect 'platforms but that of the build' 0 $'linux-arm64\nmacosx-arm64\nmacosx-x86_64\nwindows-x86_64'
# last VERSION OLD...: which of the old ones it is held against, and whether nothing may break.
last() {
  rm -rf "$WORK/tree/native/abi"
  mkdir -p "$WORK/tree/native/abi"
  (($# == 1)) || touch "${@/#/$WORK/tree/native/abi/}"
  rm -f "$WORK/tree/native/abi/$1"
  attempt "$WORK/tree/launcher/release.py" last "$1" ''
}
last 0.2.1 0.2.0.txt 0.1.9.txt
expect 'a patch breaks nothing' 0 $'0.2.0\nyes'
last 0.10.0 0.2.0.txt 0.9.3.txt
[[ $out == 0.9.3 ]] || status="0, but it says $out"
expect 'before 1.0 a minor version may' 0 ''
last 1.10.0 1.9.0.txt 1.2.0.txt 2.0.0.txt
expect 'from 1.0 on it may not' 0 $'1.9.0\nyes'
last 2.0.0 1.9.0.txt
[[ $out == 1.9.0 ]] || status="0, but it says $out"
expect 'a major version may' 0 ''
last 0.1.0
[[ -z $out ]] || status="0, but it says $out"
expect 'the first one breaks nothing that was' 0 ''

# On a tree that has to be built first, by a build that reads all it is given.
printf '#!/bin/sh\ncat\n' >"$WORK/bin/mvn"
chmod +x "$WORK/bin/mvn"
touch -d tomorrow "$WORK/tree/pom.xml"
input=$WORK/prompt
echo 'from standard input' >"$input"
generate --model own.gguf --prompt -
expect_told 'a build leaves the prompt alone' "$main --model $WORK/own.gguf --prompt -
from standard input"
input=/dev/null

# What fails keeps nothing else from its tests.
printf '#!/bin/sh\necho "told: $*" >>"%s/told"\ncase $* in *verify | *package) exit 1 ;; esac\n' "$WORK" >"$WORK/bin/mvn"
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" test --quick
expect 'test fails where a module does' 1 'a build step or a test failed'
attempt grep -c -e ' --fail-at-end .* verify' "$WORK/told"
expect 'test goes on after a module that fails' 0 1

# Another platform's test builds the class path, and no CUDA; of macOS the jar alone.
printf '#!/bin/sh\n' >"$WORK/bin/wine"
chmod +x "$WORK/bin/wine"
rm -f "$WORK/told"
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" test --platform windows-x86_64
expect 'test --platform builds first' 1 'the build failed; the log is build/test-build.log'
attempt grep -c -e '-Dexeunt.cuda=OFF -Dexeunt.suite=quick -Dexeunt.native.cases=ON -pl tests -am package' "$WORK/told"
expect 'test --platform compiles no CUDA' 0 1
mkdir -p "$WORK/tree/tests/packaging" "$WORK/tree/tests/target"
printf '#!/bin/sh\nexit 0\n' >"$WORK/bin/mvn"
echo a.jar:b.jar >"$WORK/tree/tests/target/classpath.txt"
# ends STATUS: the test of a platform does, and says what it was given.
ends() {
  printf '#!/bin/sh\necho "given $*"\nexit %s\n' "$1" >"$WORK/tree/tests/packaging/platform_test.py"
  chmod +x "$WORK/tree/tests/packaging/platform_test.py"
  attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" test --platform windows-x86_64
}
ends 0
expect 'test --platform hands on the class path' 0 'given windows-x86_64 a.jar:b.jar'
ends 1
expect 'test --platform fails where its tests do' 1 'the tests on windows-x86_64 fail'
ends 3
expect 'test --platform without what its tests need' 2 'is not here; the reason is above'
printf '#!/bin/sh\necho "built $*"\n' >"$WORK/tree/launcher/platform.sh"
printf '#!/bin/sh\necho "read $*"\n' >"$WORK/tree/tests/packaging/check_platform.py"
chmod +x "$WORK/tree/tests/packaging/check_platform.py"
jar='macosx-arm64 build/platform/exeunt-jni-macosx-arm64.jar'
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" test --platform macosx-arm64
expect 'test --platform macosx-arm64 builds and reads its jar' 0 "built $jar"$'\n'"read $jar"
printf '#!/bin/sh\nexit 3\n' >"$WORK/tree/launcher/platform.sh"
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" test --platform macosx-arm64
expect 'test --platform without a compiler' 1 'the libraries for macosx-arm64 could not be built'
printf '#!/bin/sh\necho "told: $*" >>"%s/told"\ncase $* in *verify | *package) exit 1 ;; esac\n' "$WORK" >"$WORK/bin/mvn"

# What the demo says first, before it builds.
attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" demo
out=$(head -n 3 <<<"$out" | sed 's/^exeunt: //' | tr '\n' ' ')
expect 'the demo says what will come' 1 'the demo: a sentence encoder that stops when it knows, '
expect 'the demo says how long it takes' 1 'about a minute on two cores'

# ---- help, from a tree that would have to be built ----------------------------------------------

printf '#!/bin/sh\necho built >"%s/built"\n' "$WORK" >"$WORK/bin/mvn"
for command in build docs test format demo generate evaluate score spark bench fuzz completion release; do
  rm -f "$WORK/built"
  attempt env PATH="$WORK/bin:$PATH" "$WORK/tree/exeunt" $command --help
  expect "$command --help" 0 "$command"
  [[ ! -e $WORK/built && $out != *SPDX* ]] || status='0, but it built something'
  expect "$command --help builds nothing" 0 '--'
done
attempt "$WORK/tree/exeunt" bench --quick --help
expect 'bench --quick --help' 0 '--filter'
attempt "$WORK/tree/exeunt" fuzz --minutes some
expect 'minutes that are no number' 2 'some is no number'

# ---- where it is started from -------------------------------------------------------------------

mkdir -p "$WORK/elsewhere"
ln -s ../tree/exeunt "$WORK/elsewhere/exeunt"
ln -s "$WORK/elsewhere/exeunt" "$WORK/elsewhere/again"
attempt env --chdir=/ "$WORK/elsewhere/again" help
expect 'started through links' 0 './exeunt demo'

# build_in FOLDER COMMAND...: in a copy of the tree with another name, without a locale.
# shellcheck disable=SC2016  # expands in the stand-in
printf '#!/bin/sh\nlocale charmap >"$SAID"\n' >"$WORK/bin/mvn"
build_in() {
  rm -f "$WORK/said"
  cp -r "$WORK/tree" "$1"
  attempt env -i PATH="$WORK/bin:$PATH" SAID="$WORK/said" HOME="$WORK" "$1/exeunt" build
  told=$(cat "$WORK/said" 2>/dev/null || true)
}
build_in "$WORK/Bücher und 本"
expect 'a folder beyond ASCII' 0 'built: '
expect_told 'a folder beyond ASCII, told to Maven as UTF-8' UTF-8
build_in "$WORK/"$'B\xfccher'
expect 'a folder that is not UTF-8' 2 'a name that is not UTF-8'
expect_told 'a folder that is not UTF-8, not told to Maven' ''
cp -r "$WORK/tree" "$WORK/full"
rm -rf "$WORK/full/build"
touch "$WORK/full/build"
attempt env PATH="$WORK/bin:$PATH" "$WORK/full/exeunt" build
expect 'no folder to build in' 1 'build cannot be written to'

# ---- a tree that may be read alone --------------------------------------------------------------

# read_only WHAT STATUS TEXT: generate in a copy of the tree that this user must not write to.
as_reader=()
(($(id -u) != 0)) || as_reader=(setpriv --reuid=65534 --regid=65534 --clear-groups)
read_only() {
  chmod -R a+rX,a-w "$WORK/kept"
  rm -f "$WORK/said"
  attempt env -u JAVA_HOME -u EXEUNT_MODEL --chdir=/ LC_ALL=C PATH="$WORK/bin:$PATH" \
    SAID="$WORK/heard/said" "${as_reader[@]}" "$WORK/kept/exeunt" generate --model /own.gguf --prompt a
  told=$(cat "$WORK/heard/said" 2>/dev/null || true)
  rm -f "$WORK/heard/said"
  chmod -R u+w "$WORK/kept"
  expect "$1" "$2" "$3"
}
if ((${#as_reader[@]} == 0)) || command -v setpriv >/dev/null; then
  chmod a+rx "$WORK"
  mkdir -m 777 "$WORK/heard"
  cp -r "$WORK/tree" "$WORK/kept"
  touch "$WORK/kept/engine/target/classpath.txt" -d 'next week'
  for kept in 'with its lock' 'without a folder to build in'; do
    read_only "a tree $kept that may be read alone" 2 "generate: unknown option '--fast'"
    [[ $out != *$'\n'* ]] || status='2, but with more than a sentence'
    expect "a tree $kept adds nothing to it" 2 ''
    expect_told "a tree $kept runs what is built" "$main --model /own.gguf --prompt a"
    rm -rf "$WORK/kept/build"
  done
  rm "$WORK/kept/engine/target/classpath.txt"
  read_only 'nothing is built, and nothing can be' 1 "$WORK/kept/build cannot be written to"
  [[ $out != *$'\n'* ]] || status='1, but with more than a sentence'
  expect 'that is told in one sentence' 1 ''
else
  echo 'left out: a tree that may be read alone, for which root needs setpriv'
fi

# ---- libraries that lost their ends -------------------------------------------------------------

# whole LIBRARY BYTES: whether the build keeps a copy of a library that ends there.
whole() {
  mkdir -p "$WORK/cut/sanitized"
  head -c "$2" "$1" >"$WORK/cut/sanitized/libcut.so"
  cp "$1" "$WORK/cut/libwhole.so.3"
  ln -sf libwhole.so.3 "$WORK/cut/libwhole.so"
  attempt cmake -DFOLDER="$WORK/cut" -P "$ROOT/cmake/whole_libraries.cmake"
  [[ $status == 0 && -e $WORK/cut/libwhole.so && -L $WORK/cut/libwhole.so ]] ||
    expect 'a whole library beside it is kept' 0 'it was'
  [[ -e $WORK/cut/sanitized/libcut.so ]]
}
echo 'int answer(void) { return 42; }' | cc -shared -fPIC -x c - -o "$WORK/libanswer.so"
bytes=$(stat -c %s "$WORK/libanswer.so")
for end in 0 1 63 64 1000 $((bytes - 1)); do
  ! whole "$WORK/libanswer.so" "$end" || status='0, but it is there'
  expect "a library of $bytes bytes that ends at $end goes" 0 "libcut.so is cut off at $end bytes"
done
whole "$WORK/libanswer.so" "$bytes" || status='0, but it is gone'
expect 'a library that is whole stays' 0 ''
[[ -z $out ]] || status="0, but it says $out"
expect 'and nothing is said of it' 0 ''

# ---- two at once --------------------------------------------------------------------------------

# Maven that builds until its file is gone.
printf '#!/bin/sh\necho $$ >>"%s/building"\nwhile [ -e "%s/go-on" ]; do sleep 0.1; done\n' \
  "$WORK" "$WORK" >"$WORK/bin/mvn"
# wait_for COMMAND...: until it succeeds, for half a minute at most.
wait_for() {
  for _ in {1..300}; do
    if "$@"; then
      return
    fi
    sleep 0.1
  done
  return 1
}
# start NAME COMMAND...: in the background; its messages go to NAME.log.
start() {
  local name=$1
  shift
  env -u JAVA_HOME PATH="$WORK/bin:$PATH" SAID=/dev/null "$WORK/tree/exeunt" "$@" \
    >"$WORK/$name.log" 2>&1 </dev/null &
}
# shellcheck disable=SC2317,SC2329  # called through wait_for
says() { grep -qF "$2" "$WORK/$1.log"; }

touch "$WORK/go-on"
start first build
first=$!
wait_for test -s "$WORK/building" || true
start second test --quick
start third generate --model own.gguf --prompt a
waits="waiting for ./exeunt build (process $first), which uses what is built here"
attempt wait_for says second "$waits"
expect 'a test waits for a build' 0 ''
attempt wait_for says third "$waits"
expect 'a generate waits for a build' 0 ''
input=$WORK/building
attempt wc -l
expect 'one build at a time' 0 1
rm "$WORK/go-on"
wait
attempt cat "$WORK/second.log"
expect 'and then goes on' 0 'building and testing'
attempt wc -l
((out >= 2)) || status="0, but there were $out builds"
expect 'each has built' 0 ''
input=/dev/null

# A run keeps builds out as well, but no other run.
touch -d yesterday "$WORK/tree/pom.xml" "$WORK/tree/exeunt"
touch "$WORK/tree/engine/target/classpath.txt" "$WORK/go-on"
printf '#!/bin/sh\necho $$ >>"%s/running"\nwhile [ -e "%s/go-on" ]; do sleep 0.1; done\n' \
  "$WORK" "$WORK" >"$WORK/bin/java"
start run generate --model own.gguf --prompt a
run=$!
start other generate --model own.gguf --prompt b
# shellcheck disable=SC2317,SC2329
both_run() { [[ -e $WORK/running && $(wc -l <"$WORK/running") == 2 ]]; }
attempt wait_for both_run
expect 'two runs at once' 0 ''
start build build
attempt wait_for says build "waiting for ./exeunt generate (process"
expect 'a build waits for runs' 0 ''
attempt says build "(process $run)"
expect 'and names them' 0 ''
rm "$WORK/go-on"
wait
attempt cat "$WORK/build.log"
expect 'and then builds' 0 'built: '

exit $((failures > 0))
