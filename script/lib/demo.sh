# What all forms of script/demo share: a private world of daemons, its orderly end whatever happens,
# and the printing. Sourced by script/demo, after common.sh.
# shellcheck shell=bash disable=SC2034,SC2016

top=            # The world's directory.
step_number=0
step_count=0    # Set by the form.
finished=no     # yes: the end is orderly.
pids=()         # Everything started here, in order; the daemons first.
servers=()      # The process of each database server started here.
volumes=()      # Names of what is attached, in order.
declare -A end_signal=() # By pid: what ends it at once, where that is not TERM.
freeze_note='the writer comes to rest; readers go on'
bold='' dim='' green='' red='' yellow='' plain=''
terminal=no     # yes: someone looks, with colours and lines that change.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
  terminal=yes
fi

# --- what is shown ---------------------------------------------------------------------------------

# step TITLE LINE...: the next numbered step, and why it is done.
step() {
  step_number=$((step_number + 1))
  printf '\n%s[%d/%d] %s%s\n' "$bold" "$step_number" "$step_count" "$1" "$plain"
  shift
  [ $# -eq 0 ] || printf "      $dim%s$plain\n" "$@"
}
show() { printf '      %s\n' "$*"; }
good() { printf '    %s✓%s %s\n' "$green" "$plain" "$*"; }
die() {
  printf '    %s✗%s %s\n' "$red" "$plain" "$*"
  exit 1
}

# in_ms MICROSECONDS
in_ms() { printf '%d.%03d ms' $(($1 / 1000)) $(($1 % 1000)); }

# json FILE PATH: one value of a JSON file; empty if it is not there.
json() { sqlite3 :memory: "SELECT json_extract(CAST(readfile('$1') AS TEXT), '$2')"; }

# timeline FILE: the phases of `umbra create shadow --json` as bars over time, with what each is for.
# In SQL, since a trap that runs while bash expands nested substitutions can fail to parse.
timeline() {
  sqlite3 :memory: "
    WITH phases AS (
      SELECT json_extract(value, '\$.phase') AS phase, json_extract(value, '\$.begin_us') AS t0,
             json_extract(value, '\$.end_us') AS t1, key
      FROM json_each(CAST(readfile('$1') AS TEXT), '\$.timeline')),
    total AS (SELECT max(1, max(t1)) AS t FROM phases),
    bars AS (
      SELECT *, max(1, (t1 - t0) * 30 / t) AS size,
             min(t0 * 30 / t, 30 - max(1, (t1 - t0) * 30 / t)) AS left_of
      FROM phases, total)
    SELECT printf('      %-21s%6d.%03d ms  │%s%s%s│  $dim%s$plain', phase, (t1 - t0) / 1000,
      (t1 - t0) % 1000, substr('                              ', 1, left_of),
      substr('██████████████████████████████', 1, size),
      substr('                              ', 1, 30 - left_of - size),
      CASE phase
        WHEN 'end_prepare' THEN 'the long flush, while everyone works on'
        WHEN 'prepare_for_snapshot' THEN 'the writer does its slow work'
        WHEN 'freeze' THEN '$freeze_note'
        WHEN 'pre_commit' THEN 'the provider''s last preparation'
        WHEN 'hold' THEN 'THE INSTANT: nothing is written'
        WHEN 'post_commit' THEN 'the record of it is made durable'
        WHEN 'thaw' THEN 'the writer goes on'
        WHEN 'pre_final_commit' THEN 'the copy becomes visible'
        WHEN 'post_snapshot' THEN 'the writer may tidy up in the copy'
        WHEN 'post_final_commit' THEN 'the copy becomes read-only'
        WHEN 'confirm' THEN 'the set is complete, for good'
        ELSE '' END)
    FROM bars ORDER BY key"
}

# --- the world -------------------------------------------------------------------------------------

bin() { printf '%s/%s' "$UMBRA_BIN_DIR" "$1"; }
# In files below $top: what umbra printed last, and its error. In the background, so that a signal to
# this script is heeded while umbra waits; force_end stops it.
umbra() {
  "$(bin umbra)" --run-dir "$top/run" "$@" --json >"$top/umbra.json" 2>"$top/umbra.err" 3>&- 4>&- &
  umbra_pid=$!
  wait "$umbra_pid"
}
umbra_or_die() {
  umbra "$@" || die "umbra $*: $(json "$top/umbra.err" '$.error.text'): $(
    json "$top/umbra.err" '$.error.context'
  )"
}

# wait_for SECONDS COMMAND...: polls until it succeeds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}
# load_says: the next line from the load, which start() connected to descriptors 3 and 4. Not with
# `read -t`: bash aborts when a trap ends the script inside it.
load_says() { timeout --foreground 60 head -n 1 <&4; }

is_running() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches only this script, which then
# ends everything in order; with $input and $output, if they are set. Sets started.
start() {
  local name=$1
  shift
  setsid "$@" <"${input:-/dev/null}" >"${output:-$top/$name.out}" 2>"$top/$name.log" 3>&- 4>&- &
  started=$!
  pids+=("$started")
}
# forget PID: it has ended, and the number may be somebody else's soon.
forget() {
  local pid kept=()
  for pid in "${pids[@]}"; do [ "$pid" = "$1" ] || kept+=("$pid"); done
  pids=("${kept[@]}")
}

# run SECONDS NAME COMMAND...: the same, and waits for its end. Its exit status; 124 after the seconds.
# A signal to this script is heeded at once. A command that is to end has time for it on a slow
# machine: a killed initdb leaves shared memory behind.
run() {
  local status=0
  start "$2" timeout -k 30 "$1" "${@:3}"
  wait "$started" || status=$?
  forget "$started"
  return $status
}

# stop PID SECONDS [SIGNAL]: SIGTERM or that, and SIGKILL if it does not help. False if it did not.
stop() {
  local status=0
  [ -n "${1:-}" ] || return 0
  if is_running "$1"; then
    kill -"${3:-TERM}" "$1" 2>/dev/null || true
    if ! wait_for "$2" eval "! is_running $1"; then
      kill -KILL "$1" 2>/dev/null || true
      status=1
    fi
  fi
  forget "$1"
  return $status
}

provider_is_there() { umbra list providers && [ "$(json "$top/umbra.json" '$.providers[0].connected')" = 1 ]; }
writer_is_there() { umbra list writers && [ -n "$(json "$top/umbra.json" '$.writers[0].name')" ]; }

# start_world MIB: in $TMPDIR or /tmp, which must have so much room.
start_world() {
  local directory=${TMPDIR:-/tmp} free
  # The path of a socket has room for 107 bytes, and these names go into SQL and configurations.
  [[ $directory =~ ^/[A-Za-z0-9/._+-]{0,59}$ ]] ||
    die "TMPDIR=$directory cannot be used: choose a path of at most 60 letters, digits and /._+-"
  free=$(df --output=avail --block-size=1M "$directory" | tail -n 1) || die "there is no directory $directory"
  ((free >= $1)) ||
    die "$1 MiB of free space are needed in $directory, and there are $((free)): set TMPDIR to a place with more"
  trap 'on_exit $?' EXIT
  trap 'interrupted INT 130' INT
  trap 'interrupted TERM 143' TERM
  trap 'interrupted HUP 129' HUP
  top=$(mktemp -d "${directory%/}/umbra-demo.XXXXXX")
}

# start_daemons OPTION...: of umbrad.
start_daemons() {
  start umbrad "$(bin umbrad)" --run-dir "$top/run" "$@"
  umbrad_pid=$started
  wait_for 20 test -S "$top/run/umbrad.sock" || die "umbrad did not start"
  good "umbrad, the coordinator: brings writers, requesters and providers together"
  start umbra-cowd "$(bin umbra-cowd)" --run-dir "$top/run" --state-dir "$top/state"
  cowd_pid=$started
  wait_for 20 provider_is_there || die "umbra-cowd did not register with umbrad"
  good "umbra-cowd, the provider: copy-on-write (and its guardian: whatever it freezes, it thaws)"
}

# attach NAME SIZE OPTION...: a new volume, on a sparse file.
attach() {
  truncate -s "$2" "$top/$1.img"
  volumes+=("$1")
  umbra_or_die attach "$top/$1.img" --diff "$top/$1.diff" --name "$1" "${@:3}"
}

# make_volume NAME SIZE DIRECTORY: the same, with ext4, and mounted. Sets device.
make_volume() {
  attach "$1" "$2"
  device=$(json "$top/umbra.json" '$.device_path')
  [ -b "$device" ] || die "umbra attach named no block device"
  mkdir -p "$3"
  mkfs.ext4 -q -F "$device"
  mount "$device" "$3"
}

# put_away NAME DIRECTORY: the opposite; the image must be a sound file system by itself.
put_away() {
  umount "$2"
  umbra_or_die detach "$1"
  e2fsck -fn "$top/$1.img" >"$top/e2fsck.log" 2>&1 || die "e2fsck found errors in the volume $1"
}

interrupted() {
  printf '\n%sInterrupted; cleaning up.%s\n' "$bold" "$plain"
  exit "$2"
}

# Our processes: those that name the world's directory, or work in it.
own_processes() {
  local entry words
  for entry in /proc/[0-9]*; do
    [ "${entry#/proc/}" != "$$" ] || continue
    words=$({ tr '\0' ' ' <"$entry/cmdline"; } 2>/dev/null) || continue
    [[ $words == *"${top##*/}"* ]] && is_running "${entry#/proc/}" && echo "${entry#/proc/}"
  done
  working_in_it
}
# A server's children: their command lines tell nothing.
working_in_it() {
  find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$top/*" 2>/dev/null | cut -d/ -f3 || true
}
own_mounts() { awk -v top="$top/" 'index($2, top) == 1 { print $2 }' /proc/self/mounts | tac; }
own_loops() {
  local file
  for file in /sys/block/loop*/loop/backing_file; do
    [ -e "$file" ] && grep -q "^$top/" "$file" 2>/dev/null && cut -d/ -f4 <<<"$file"
  done
  return 0
}
# System V shared memory that a killed server left.
own_memory() {
  awk -v pids=" ${servers[*]:-} " '$7 == 0 && index(pids, " " $5 " ") { print $2 }' /proc/sysvipc/shm
}
leftovers() {
  local name
  for name in $(own_mounts); do echo "mount $name"; done
  for name in $(own_loops); do echo "loop device /dev/$name"; done
  for name in $(own_processes); do echo "process $name"; done
  for name in $(own_memory); do echo "shared memory $name"; done
}

# Stops the daemons. False if one would not stop.
stop_daemons() {
  local status=0
  stop "${cowd_pid:-}" 20 || status=1
  stop "${umbrad_pid:-}" 20 || status=1
  return $status
}

# The orderly end; what is left after it is a fault of ours and is told.
end_world() {
  stop_daemons || die "a daemon did not stop"
  # A process that was just waited for may take a moment to vanish from the tables.
  wait_for 5 eval '[ -z "$(leftovers)" ]' || die "left behind: $(leftovers | tr '\n' ';')"
  finished=yes
}

# The end of every form of the demo, orderly or not. Never fails.
on_exit() {
  local status=$1 name pid
  trap '' INT TERM HUP
  set +e
  exec 3>&- 4>&-
  if [ "$status" -ne 0 ] && [ "$status" -lt 128 ] && [ -n "$top" ]; then show_logs; fi
  if [ "$finished" = no ] && [ -n "$top" ]; then force_end; fi
  [ -z "$top" ] || rm -rf "$top"
  exit "$status"
}

# Whatever state things are in: applications first, then file systems, then what serves them. What
# umbra-cowd itself has mounted is its own to unmount: a loop device on it would lose its name.
force_end() {
  local name pid
  stop "${umbra_pid:-}" 15 # It undoes a creation under way.
  for pid in $(printf '%s\n' "${pids[@]}" | tac); do
    [ "$pid" = "${umbrad_pid:-}" ] || [ "$pid" = "${cowd_pid:-}" ] || stop "$pid" 40 "${end_signal[$pid]:-TERM}"
  done
  wait_for 5 eval '[ -z "$(working_in_it)" ]'
  for name in $(own_mounts); do
    [[ $name != "$top/run/"* ]] || continue
    timeout 5 fsfreeze -u "$name" 2>/dev/null
    timeout 10 umount "$name" 2>/dev/null || umount -l "$name" 2>/dev/null
  done
  if is_running "${umbrad_pid:-}" && is_running "${cowd_pid:-}"; then
    timeout --foreground 20 "$(bin umbra)" --run-dir "$top/run" delete shadows --all --force
    for name in "${volumes[@]}"; do
      timeout --foreground 20 "$(bin umbra)" --run-dir "$top/run" detach "$name"
    done
  fi >/dev/null 2>&1
  stop_daemons
  for pid in $(own_processes); do kill -CONT "$pid"; kill -KILL "$pid"; done 2>/dev/null
  for name in $(own_loops); do losetup -d "/dev/$name" 2>/dev/null; done
  for name in $(own_mounts); do umount -l "$name" 2>/dev/null; done
  for name in $(own_memory); do ipcrm -m "$name"; done
}

show_logs() {
  local log
  for log in "$top"/*.log "$top"/umbra.err; do
    [ -s "$log" ] || continue
    printf '\n%s--- last lines of %s%s\n' "$bold" "$(basename "$log")" "$plain"
    tail -n 25 "$log"
  done
}
