# The form of script/demo without root and FUSE: a stamped load over NBD, with the test writer.
# shellcheck shell=bash disable=SC2034,SC2154

step_count=6
start_world 300

# ask LINE: a command to umbra-stamp; the answer in $answer.
ask() {
  printf '%s\n' "$1" >&3
  answer=$(load_says)
}
has_requests() { ask count && [[ $answer =~ \"completed\":([0-9]+) ]] && ((BASH_REMATCH[1] >= $1)); }
now_ns() { ask now && [[ $answer =~ ([0-9]+) ]] && now=${BASH_REMATCH[1]}; }

printf '\n%sUmbra%s, without mounting anything.' "$bold" "$plain"
if [ ${#missing[@]} -gt 0 ]; then
  printf '  The whole demo, with ext4 and SQLite, needs what is missing here:\n'
  printf '  - %s\n' "${missing[@]}"
else
  printf '\n'
fi
printf 'What can be shown: a snapshot under a load whose every sector can be told apart, and a writer.\n'

step "Start the two daemons" "In a private directory, $top; nothing else on this machine is touched."
start_daemons

step "Make a volume and a load on it" \
  "An image file, served over NBD on a local socket. Four connections keep 32 requests in flight; each" \
  "sector they write carries its place and its number, so any state of the volume can be judged."
attach disk 64M --expose none
live=$(json "$top/umbra.json" '$.nbd_uri')
mkfifo "$top/ask" "$top/answer"
input=$top/ask output=$top/answer start stamp "$(bin umbra-stamp)" "$live"
stamp_pid=$started
exec 3>"$top/ask" 4<"$top/answer"
wait_for 30 has_requests 5000 || die "the load does not get on"
good "$live"
good "${BASH_REMATCH[1]} requests so far"

step "Give it a writer" "The test writer stands for a database: it is told when to stop and when to go on."
start writer "$(bin umbra-test-writer)" --socket "$top/run/umbrad.sock" --record "$top/events" \
  --name "Test Writer"
writer_pid=$started
wait_for 20 writer_is_there || die "the writer did not register with umbrad"
good "registered: $(json "$top/umbra.json" '$.writers[0].name')"

step "Create a shadow copy, under load" "umbra create shadow disk"
now_ns
before=$now
umbra_or_die create shadow disk
cp "$top/umbra.json" "$top/created.json"
now_ns
after=$now
snapshot=$(json "$top/created.json" '$.snapshots[0].snapshot_id')
good "snapshot $snapshot"
printf '\n'
timeline "$top/created.json"
printf '\n'
show "the writer was told:      $(tr '\n' ' ' <"$top/events" | grep -o '"event": *"[a-z_]*"' |
  cut -d'"' -f4 | tr '\n' ' ')"
show "writes to the disk held:  $(in_ms "$(json "$top/created.json" '$.hold.gate_us')")"

step "Prove the copy good, while the load goes on" \
  "Every sector must be older than the end of the creation, and not older than what was acknowledged" \
  "before it began."
copy=$(json "$top/created.json" '$.snapshots[0].nbd_uri')
for round in "at once" "5000 requests later"; do
  ask "verify copy $copy $before $after"
  [[ $answer == *'"wrong":0,'* ]] || die "the copy is NOT good: $answer"
  [[ $answer =~ \"sectors\":([0-9]+),\"stamped\":([0-9]+) ]]
  good "$round: ${BASH_REMATCH[1]} sectors right, ${BASH_REMATCH[2]} of them written by the load"
  has_requests 0
  wait_for 30 has_requests $((BASH_REMATCH[1] + 5000)) || die "the load does not get on"
done

step "Put everything away"
umbra_or_die delete shadows "$snapshot"
ask "verify-now live"
[[ $answer == *'"wrong":0,'* ]] || die "the live volume is NOT good: $answer"
printf 'stop\n' >&3
answer=$(load_says)
[[ $answer == *'"wrong":0,'* ]] || die "the live volume is NOT good: $answer"
exec 3>&- 4<&-
wait_for 20 eval "! is_running $stamp_pid" || die "the load did not end"
good "the live volume is exactly what was acknowledged"
stop "$writer_pid" 20 || die "the writer did not stop"
umbra_or_die detach disk
end_world
good "detached, stopped; nothing is left"
