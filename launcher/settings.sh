# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The environment variables that decide what is built and run: what makes no sense is refused before
# anything is. Sourced by the launcher.

# setting_is NAME PATTERN WHAT: refuses a value that is set, not empty and of another form.
setting_is() {
  local value=${!1:-}
  [[ -z $value || $value =~ ^($2)$ ]] || die 2 "$1 is '$value', not $3"
}

check_settings() {
  setting_is EXEUNT_JOBS '[1-9][0-9]{0,3}' 'a number from 1 to 9999'
  setting_is EXEUNT_THREADS '[1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-6]' \
    'a number from 1 to 256'
  setting_is EXEUNT_BACKEND 'cpu|cuda' 'cpu or cuda'
  setting_is EXEUNT_ISA 'baseline|avx2|vnni|avx512|amx|neon' \
    'baseline, avx2, vnni, avx512, amx or neon'
  local home=${JAVA_HOME:-} major
  [[ -n $home ]] || return 0
  [[ -x $home/bin/java && -x $home/bin/javac ]] ||
    die 2 "JAVA_HOME is '$home', where there is no JDK (bin/java, bin/javac): correct or unset it"
  major=$(jdk_major)
  ((${major:-0} >= 17)) ||
    die 2 "JAVA_HOME is '$home', a JDK ${major:-of no version}: 17 or newer is needed"
}
