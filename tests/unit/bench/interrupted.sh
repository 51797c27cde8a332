#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# interrupted.sh UMBRA-BENCH: a bench that is interrupted takes everything with it; of one that is
# killed only its directory stays.
set -euo pipefail
bench=$1
export MALLOC_PERTURB_=85 # Memory that is used after it was freed holds nonsense.
top=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true; rm -rf "$top"' EXIT

# Processes whose command line names the directory; zombies have none.
left() {
  local file words
  for file in /proc/[0-9]*/cmdline; do
    { mapfile -d '' words <"$file"; } 2>/dev/null || continue
    [[ "${words[*]}" != *"$top/"* ]] || echo "$file"
  done
}
wait_for() { # wait_for WHAT COMMAND...: polls, a minute at most.
  local what=$1 end=$((SECONDS + 60))
  shift
  until "$@"; do
    ((SECONDS < end)) || { echo "not within a minute: $what" >&2; cat "$top"/log* >&2; exit 1; }
    read -rt 0.02 <> <(:) || true
  done
}
# The last one to be started is loaded: its image is not zeroes any more.
under_load() {
  local image
  for image in "$top"/files/*/nbdkit*.img; do
    [ -e "$image" ] && ! cmp -s -n 1048576 "$image" /dev/zero && return 0
  done
  return 1
}
servers_run() { [ "$(left | wc -l)" -ge 4 ]; } # umbra-bench, umbrad, guardian, umbra-cowd.
nothing_runs() { [ -z "$(left)" ]; }

rival=first_write_vs_nbdkit_cow
command -v nbdkit >/dev/null || PATH=$PATH:/usr/sbin command -v nbdkit >/dev/null || { echo "needs nbdkit"; exit 77; }
for signal in INT INT INT TERM KILL; do
  mkdir -p "$top/files"
  # --reps: longer than this test waits.
  setsid "$bench" run "$rival" --reps 1000 --directory "$top/files" >"$top/log.$signal" 2>&1 &
  pid=$!
  wait_for "the rival is loaded" under_load
  wait_for "the servers run" servers_run # The rival is started anew for each snapshot.
  kill -"$signal" "$pid"
  status=0
  wait "$pid" || status=$?
  pid=
  wait_for "the servers end after SIG$signal" nothing_runs
  case $signal in
    INT) expected=130 ;;
    TERM) expected=143 ;;
    KILL) expected=137 ;;
  esac
  [ "$status" -eq $expected ] || { echo "SIG$signal: exit status $status" >&2; cat "$top/log.$signal" >&2; exit 1; }
  if [ "$signal" != KILL ] && [ -n "$(ls -A "$top/files")" ]; then
    echo "SIG$signal: files are left: $(ls "$top/files")" >&2
    exit 1
  fi
  rm -rf "$top/files"
done
