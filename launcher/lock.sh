# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Two builds of one tree would write the same files, and a program would lose its jars to a build.
# So a build locks the tree, and what runs afterwards shares it with others that run. Sourced by the
# launcher.

LOCK=$ROOT/build/lock
lock_descriptor=''

# Of the lock's file, whose lines are "PID COMMAND": the processes that still run, but our own.
lock_holders() {
  local pid what
  while read -r pid what; do
    [[ $pid == "$$" ]] || ! kill -0 "$pid" 2>/dev/null || echo "$what (process $pid)"
  done <"$LOCK" | sort -u
}

# lock_tree MODE COMMAND: MODE is exclusive or shared. Waits for others, and says for whom. Held
# until this process and all that it starts have ended; a second call changes the mode. A user who may
# not write here can still run what is built, beside others who do.
lock_tree() {
  local mode=$1 what=$2 holders writable=true
  { { [[ -d $ROOT/build ]] || mkdir -p "$ROOT/build"; } && : >>"$LOCK"; } 2>/dev/null ||
    writable=false
  $writable || [[ $mode == shared ]] ||
    die 1 "$ROOT/build cannot be written to, where all that is built belongs"
  have flock || return 0
  if [[ -z $lock_descriptor ]]; then
    if $writable; then
      exec {lock_descriptor}<>"$LOCK"
    elif [[ -r $LOCK ]]; then
      exec {lock_descriptor}<"$LOCK"
    else
      return 0
    fi
  fi
  if ! flock "--$mode" --nonblock "$lock_descriptor" 2>/dev/null; then
    holders=$(lock_holders | paste -sd, | sed 's/,/, /g')
    say "waiting for ${holders:-another process}, which uses what is built here"
    flock "--$mode" "$lock_descriptor" 2>/dev/null ||
      say "$ROOT/build is where files cannot be locked: start no second build beside this one"
  fi
  $writable || return 0
  [[ $mode == shared ]] || : >"$LOCK"
  echo "$$ ./exeunt $what" >>"$LOCK"
}
