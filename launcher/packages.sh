# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Debian and Ubuntu packages that the build, the tests and the demo need. Sourced by the launcher.

# shellcheck disable=SC2034  # read by the launcher
# Needed to build and to run the demo: what must be there, and the package that brings it.
BUILD_NEEDS=(
  'jdk17:openjdk-17-jdk-headless'
  'command mvn:maven'
  'command cmake:cmake'
  'command ninja:ninja-build'
  'command g++:g++'
  'command python3:python3'
  'pip:python3-pip'
  'file /usr/include/dlpack/dlpack.h:libdlpack-dev'
  'gtest:libgtest-dev'
)

# shellcheck disable=SC2034
# Needed besides by `test`: what finds an installed exeunt.
TEST_NEEDS=('command pkg-config:pkg-config')

# For what compiles it for another platform.
GOOGLETEST='file /usr/src/googletest/googletest/CMakeLists.txt:googletest'

# shellcheck disable=SC2034
# Needed besides by `test --all` and `--platform linux-arm64`: 64-bit ARM under user-mode QEMU.
ALL_NEEDS=(
  'command aarch64-linux-gnu-g++:g++-aarch64-linux-gnu'
  'command qemu-aarch64:qemu-user'
  "$GOOGLETEST"
)

# shellcheck disable=SC2034
# Needed besides by `test --platform windows-x86_64`.
WINDOWS_NEEDS=(
  'command wine:wine'
  "$GOOGLETEST"
)

# shellcheck disable=SC2034
# Needed by `docs`, and by the test of the site.
DOCS_NEEDS=('command doxygen:doxygen')

# Major version of the JDK that Maven will run on; 0 if there is none with a compiler.
jdk_major() {
  local home=${JAVA_HOME:-} javac
  javac=${home:+$home/bin/javac}
  [[ -x ${javac:-} ]] || javac=$(command -v javac || true)
  [[ -n $javac ]] || { echo 0; return; }
  "$javac" -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p;q'
}

need_is_met() {
  local kind=${1%% *} what=${1#* }
  case $kind in
    command) have "$what" ;;
    file) [[ -e $what ]] ;;
    jdk17) (($(jdk_major) >= 17)) ;;
    pip) have pip3 || have pip || python3 -m pip --version >/dev/null 2>&1 ;;
    gtest) compgen -G '/usr/lib/*/cmake/GTest/GTestConfig.cmake' >/dev/null ;;
    *) return 1 ;;
  esac
}

# Packages of the given needs that are not met, one per line.
missing_packages() {
  local need
  for need in "$@"; do
    need_is_met "${need%:*}" || printf '%s\n' "${need##*:}"
  done
}

# Installs what is missing where we may, else names it and ends with status 2.
ensure_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ! have apt-get; then
    die 2 "this is no Debian or Ubuntu: please install what these packages hold: ${missing[*]}"
  fi
  if ((EUID != 0)); then
    die 2 "missing packages; please run: sudo apt-get install ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  local log=$ROOT/build/apt.log
  mkdir -p "$ROOT/build"
  if ! apt-get update >"$log" 2>&1 ||
    ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      "${missing[@]}" >>"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die 2 "could not install ${missing[*]}; the log is $log"
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) || die 2 "installed, but still missing: ${missing[*]}; the log is $log"
}

# Tests look at the pages of reports in a browser; without one they are left out.
ensure_browser() {
  have chromium-headless-shell || have chromium || have chromium-browser || have google-chrome ||
    (ensure_packages 'command chromium-headless-shell:chromium-headless-shell') ||
    say 'no Chromium here: no test looks at the pages of reports'
}
