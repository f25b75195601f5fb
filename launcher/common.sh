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
