# The full form of script/demo: an ext4 volume, an SQLite database, a snapshot with the writer.
# shellcheck shell=bash disable=SC2034,SC2154

step_count=8
start_world 700
database=$top/mnt/ledger.db

# count: the load's own figures: the last commit acknowledged, and the longest transaction of all.
longest_us=0
count() {
  local line
  printf 'count\n' >&3
  line=$(load_says)
  [[ $line == *'"failed":false'* ]] || die "the load failed: $line"
  [[ $line =~ \"acknowledged\":([0-9]+),.*\"longest_commit_us\":([0-9]+) ]] || die "no figures: $line"
  commits=${BASH_REMATCH[1]}
  ((BASH_REMATCH[2] <= longest_us)) || longest_us=${BASH_REMATCH[2]}
}
has_commits() { count && ((commits >= $1)); }

# check_copy FROM TO: the copy's database, which must end with a commit in that range.
check_copy() {
  "$(bin umbra-ledger)" check "$top/copy/ledger.db" --commits-min "$1" --commits-max "$2" \
    >"$top/check.json" 2>"$top/check.log" ||
    die "the copy is NOT good: $(json "$top/check.json" '$.problems') $(cat "$top/check.log")"
  copy_commits=$(json "$top/check.json" '$.commits')
}

printf '\n%sUmbra%s: a snapshot of a busy database, agreed with the database, on a plain ext4 volume.\n' \
  "$bold" "$plain"

step "Start the two daemons" "In a private directory, $top; nothing else on this machine is touched."
start_daemons

step "Make a volume" \
  "A plain image file becomes a block device that Umbra serves. A real disk works the same way." \
  "While there is no snapshot, reads and writes just pass through."
mkdir "$top/copy"
make_volume disk 512M "$top/mnt"
good "disk.img is attached as $device, formatted with ext4 and mounted"

step "Start an application that never stops writing" \
  "An SQLite database with 100 accounts. Each transaction moves money between two of them and adds a" \
  "numbered row to a ledger. Money is never made or lost, so a copy that is wrong shows it."
mkfifo "$top/ask" "$top/answer"
input=$top/ask output=$top/answer start ledger "$(bin umbra-ledger)" run "$database" \
  --threads 1 --until-stdin-closes
exec 3>"$top/ask" 4<"$top/answer"
wait_for 30 has_commits 200 || die "the load does not get on"
good "$commits transactions so far"

step "Give the application a voice" \
  "umbra-writer-sqlite takes part for applications that do not know Umbra: at the right moment it holds" \
  "the database's write lock for a few milliseconds. Between two transactions, never inside one."
start writer "$(bin umbra-writer-sqlite)" --run-dir "$top/run" "$database"
writer_pid=$started
wait_for 20 writer_is_there || die "the writer did not register with umbrad"
good "registered: $(json "$top/umbra.json" '$.writers[0].name')"

step "Create a shadow copy, under load" "umbra create shadow $top/mnt"
count
before=$commits longest_us=0
umbra_or_die create shadow "$top/mnt"
cp "$top/umbra.json" "$top/created.json"
count
after=$commits
wait_for 30 has_commits $((after + 2)) || die "the load does not get on" # The one that waited is told.
snapshot=$(json "$top/created.json" '$.snapshots[0].snapshot_id')
set_id=$(json "$top/created.json" '$.set_id')
[ "$(json "$top/created.json" '$.components[0].name')" = ledger.db ] ||
  die "the database was not part of the set"
good "set $set_id"
printf '\n'
timeline "$top/created.json"
printf '\n'
show "file system frozen:       $(in_ms "$(json "$top/created.json" '$.hold.freeze_us')")"
show "writes to the disk held:  $(in_ms "$(json "$top/created.json" '$.hold.gate_us')")"
show "longest transaction seen by the application meanwhile: $(in_ms "$longest_us")"

step "Prove the copy good, while the application writes on" \
  "Mount it read-only, and open the database in it as a restore would."
umbra_or_die mount "$snapshot" "$top/copy"
check_copy "$before" "$after"
first_commits=$copy_commits
good "PRAGMA integrity_check: ok"
good "every account's balance is what the ledger says, and the sum is what was paid in"
good "the copy ends with commit $copy_commits: commit $before was acknowledged before, $after after"
wait_for 30 has_commits $((after + 500)) || die "the load does not get on"
check_copy "$first_commits" "$first_commits"
good "500 transactions later the live database is at $commits, and the copy still at $copy_commits"

step "List it, and let it go"
"$(bin umbra)" --run-dir "$top/run" list shadows | sed 's/^/      /'
umbra_or_die unmount "$snapshot"
umbra_or_die delete shadows "$snapshot"
umbra_or_die list shadows
[ "$(json "$top/umbra.json" '$.snapshots')" = '[]' ] || die "the shadow copy is still listed"
good "deleted"

step "Put everything away" "The image remains a plain ext4 file system: no trace of Umbra in it."
exec 3>&-
line=$(load_says)
[[ $line == *'"failed":false'* ]] || die "the load failed: $line"
exec 4<&-
stop "$writer_pid" 20 || die "the writer did not stop"
"$(bin umbra-ledger)" check "$database" --in-place >"$top/check.json" || die "the live database is damaged"
put_away disk "$top/mnt"
good "the live database is sound at commit $(json "$top/check.json" '$.commits'), and so is its file system (e2fsck)"
end_world
good "unmounted, detached, stopped; nothing is left"
printf '\n%sThat was all of it.%s  Next: README.md, docs/writer-sqlite.md, docs/cli.md\n' "$bold" "$plain"
