#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the native jar of a platform that this machine need not be:
#
#   launcher/platform.sh PLATFORM JAR [TARGET...]
#
# PLATFORM is windows-x86_64, linux-arm64, macosx-arm64 or macosx-x86_64, as JavaCPP names them. What
# it builds lies under build/platform/PLATFORM, with what else tests name of CMake's targets.
# EXEUNT_ISAS="baseline avx2" leaves out the kernels of other instruction sets, for a first try.
#
# Exit status: 0 the jar is there, 1 the build failed, 2 a package is missing or the platform is
# unknown, 3 the compiler or JavaCPP could not be fetched.
set -euo pipefail
(($# >= 2)) || { sed -n '4,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
PLATFORM=$1
JAR=$(realpath -m "$2")
ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
cd "$ROOT"
# shellcheck source=launcher/common.sh
source launcher/common.sh
# shellcheck source=launcher/packages.sh
source launcher/packages.sh

WORK=$ROOT/build/platform
BUILD=$WORK/$PLATFORM
ISAS=${EXEUNT_ISAS:-}
TARGETS=(exeunt jniexeunt "${@:3}")

need() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) || die 2 "missing packages: ${missing[*]}"
}

# The compiler, fetched once, by one of those who want it.
ensure_zig() {
  mkdir -p build/zig
  exec {zig_lock}>build/zig/.lock
  flock "$zig_lock"
  ensure_pinned launcher/platform-requirements.txt build/zig/site build/zig/log \
    'fetching zig (100 MB, once) into build/zig' || die 3 'zig could not be fetched (see build/zig/log)'
  exec {zig_lock}>&-
}

# $WORK/jni with the C++ that JavaCPP makes of the headers, which is the same for all platforms, and
# $WORK/classes with the module of the binding.
generate() {
  local version javacpp javac=javac java=java
  version=$(sed -n 's|.*<javacpp.version>\(.*\)</javacpp.version>.*|\1|p' pom.xml)
  javacpp=$WORK/javacpp-$version.jar
  if [[ -n ${JAVA_HOME:-} ]]; then
    javac=$JAVA_HOME/bin/javac java=$JAVA_HOME/bin/java
  fi
  if [[ ! -e $javacpp ]]; then
    mvn --batch-mode --quiet --non-recursive dependency:copy "-Dartifact=org.bytedeco:javacpp:$version" \
      "-DoutputDirectory=$WORK" >"$WORK/fetch.log" 2>&1 ||
      die 3 "JavaCPP could not be fetched (see ${WORK#"$ROOT/"}/fetch.log)"
  fi
  local tool=("$java" -XX:TieredStopAtLevel=1 -jar "$javacpp" -properties linux-x86_64
    "-Dplatform.includepath=$ROOT/native/include:$ROOT/jni-gen/src/main/native"
    -classpath "$WORK/jni.new/classes" -d)
  local sources=jni-gen/src/main/java/org/exeunt/presets
  rm -rf "$WORK/jni.new"
  mkdir -p "$WORK/jni.new/classes"
  "$javac" --release 17 -nowarn -cp "$javacpp" -d "$WORK/jni.new/classes" "$sources"/*.java
  "${tool[@]}" "$WORK/jni.new/java" org.exeunt.presets.exeunt
  find "$WORK/jni.new/java" -name '*.java' -printf '"%p"\n' >"$WORK/jni.new/list"
  "$javac" --release 17 -nowarn -cp "$javacpp:$WORK/jni.new/classes" -d "$WORK/jni.new/classes" \
    "@$WORK/jni.new/list"
  "${tool[@]}" "$WORK/jni.new/cpp" -nocompile 'org.exeunt.jni.**'
  python3 jni-gen/src/build/compile.py --sort "$WORK"/jni.new/cpp/*.cpp
  "$javac" --release 17 -nowarn -p "$javacpp" -d "$WORK/jni.new/classes" \
    jni-gen/src/main/module/module-info.java "$sources"/*.java "@$WORK/jni.new/list"
  # In place only where it differs, so that nothing else is compiled again.
  mkdir -p "$WORK/jni"
  local name
  for name in jniexeunt.cpp jnijavacpp.cpp; do
    cmp -s "$WORK/jni.new/cpp/$name" "$WORK/jni/$name" ||
      mv "$WORK/jni.new/cpp/$name" "$WORK/jni/$name"
  done
  rm -rf "$WORK/classes"
  mv "$WORK/jni.new/classes" "$WORK/classes"
  rm -rf "$WORK/jni.new"
}

case $PLATFORM in
  windows-x86_64) target=x86_64-windows-gnu libraries=(bin/{,jni}exeunt.dll) ;;
  macosx-arm64) target=aarch64-macos.11.0 libraries=(lib/lib{,jni}exeunt.dylib) ;;
  macosx-x86_64) target=x86_64-macos.11.0 libraries=(lib/lib{,jni}exeunt.dylib) ;;
  linux-arm64) target='' libraries=(lib/lib{,jni}exeunt.so) ;;
  *) die 2 "there is no platform $PLATFORM: windows-x86_64, linux-arm64, macosx-arm64, macosx-x86_64" ;;
esac
need 'jdk17:openjdk-17-jdk-headless' 'command mvn:maven' 'command cmake:cmake' \
  'command ninja:ninja-build' 'command python3:python3' 'pip:python3-pip'
mkdir -p "$WORK"
exec {lock}>"$WORK/.$PLATFORM.lock"
flock "$lock"

tests=OFF cases=OFF
[[ " ${TARGETS[*]} " != *" exeunt_cases_jni "* ]] || cases=ON
[[ $PLATFORM != windows* || " ${TARGETS[*]} " != *" all "* ]] || tests=ON
arguments=(-DCMAKE_BUILD_TYPE=Release -DEXN_CUDA=OFF "-DEXN_JNI_SOURCES=$WORK/jni"
  "-DEXN_JNI_INCLUDE=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")/include"
  "-DEXN_ONLY_ISAS=${ISAS// /;}")
if [[ -n $target ]]; then
  ensure_zig
  arguments+=("-DEXN_TESTS=$tests" "-DEXN_CASES=$cases" -DEXN_SUITE=standard
    -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/zig.cmake
    "-DEXN_TARGET=$target" "-DEXN_ZIG=$ROOT/build/zig/site/ziglang/zig")
  # For ccache: the compilers are scripts that CMake writes.
  CCACHE_COMPILERCHECK="string:$(cat build/zig/site/.pins) $target"
  export CCACHE_COMPILERCHECK
else
  need 'command aarch64-linux-gnu-g++:g++-aarch64-linux-gnu'
  arguments+=(-DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/aarch64-linux-gnu.cmake)
  # nested.aarch64, if it has run, has compiled the same objects.
  [[ -e $BUILD ]] || rm -f "$BUILD"
  [[ -e $BUILD || ! -e build/native/aarch64/build.ninja ]] || ln -s ../native/aarch64 "$BUILD"
  [[ -L $BUILD ]] || arguments+=(-DEXN_TESTS=OFF -DEXN_CASES=ON)
fi
mkdir -p "$BUILD"
BUILD=$(realpath "$BUILD")
# Within a condition, what fails would not end it.
set +e
(
  set -e
  exec {generate_lock}>"$WORK/.lock"
  flock "$generate_lock"
  generate
) >"$WORK/generate.log" 2>&1
generated=$?
set -e
((generated == 0)) || die 1 "JavaCPP failed (see ${WORK#"$ROOT/"}/generate.log)"
say "building the libraries for $PLATFORM"
if ! { cmake -S . -B "$BUILD" -G Ninja "${arguments[@]}" &&
  ZIG_VERBOSE_LINK=1 cmake --build "$BUILD" --parallel "${EXEUNT_JOBS:-$(nproc)}" \
    --target "${TARGETS[@]}"; } \
  >"$BUILD/log" 2>&1; then
  grep -E 'error|FAILED' "$BUILD/log" | head -n 5 >&2 || true
  die 1 "the libraries for $PLATFORM could not be built (see ${BUILD#"$ROOT/"}/log)"
fi
# For launcher/linked.py.
grep -E '^(lld-link|zig ld) ' "$BUILD/log" >>"$BUILD/links" || true
python3 launcher/platform_jar.py "$PLATFORM" "$JAR" "$WORK/classes:$(echo "$WORK"/javacpp-*.jar)" \
  "${libraries[@]/#/$BUILD/}"
say "built $JAR"
