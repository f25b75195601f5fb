# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the launcher's parts share. Sourced, never run. Progress goes to stderr, so that a function
# may print its result on stdout.

say() { printf 'exeunt: %s\n' "$*" >&2; }
die() {
  local status=$1
  shift
  say "$*"
  exit "$status"
}
have() { command -v "$1" >/dev/null 2>&1; }

# The user's cache folder. One that is not absolute does not count, as others see it too; without
# HOME the password file knows.
cache_folder() {
  if [[ ${XDG_CACHE_HOME:-} == /* ]]; then
    echo "$XDG_CACHE_HOME"
  elif [[ ${HOME:-} == /* ]]; then
    echo "$HOME/.cache"
  else
    (unset HOME && echo ~/.cache)
  fi
}

# Folders that JVMs and compilers are given have to be text for them, whatever the locale says.
use_utf8() {
  [[ $(locale charmap 2>/dev/null) == UTF-8 ]] || export LC_ALL=C.UTF-8
  [[ $ROOT =~ ^[\ -~]*$ ]] || iconv -f UTF-8 -t UTF-8 <<<"$ROOT" >/dev/null 2>&1 ||
    die 2 "the folder $(printf '%q' "$ROOT") has a name that is not UTF-8; Java could not read it"
}

# ensure_pinned PINS FOLDER LOG SENTENCE: the packages of a requirements file, with hashes, in FOLDER.
# Fetches them where others or none are there, after SENTENCE; fails where they cannot be had.
ensure_pinned() {
  local pins
  pins=$(sha256sum "$1" | cut -d' ' -f1)
  [[ $(cat "$2/.pins" 2>/dev/null) != "$pins" ]] || return 0
  say "$4"
  rm -rf "$2"
  mkdir -p "$2"
  pip_run install --quiet --no-deps --require-hashes --only-binary :all: --target "$2" -r "$1" \
    >"$3" 2>&1 || return 1
  echo "$pins" >"$2/.pins"
}

# The pip to use: on PATH, or python3's.
pip_run() {
  if have pip3; then
    PIP_DISABLE_PIP_VERSION_CHECK=1 pip3 "$@"
  elif have pip; then
    PIP_DISABLE_PIP_VERSION_CHECK=1 pip "$@"
  else
    PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip "$@"
  fi
}
