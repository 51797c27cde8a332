# script/demo postgres: a PostgreSQL cluster on two volumes under pgbench, one snapshot set of both.
# shellcheck shell=bash disable=SC2034,SC2154,SC2015,SC2016
#
# What is proved about the copy, and against what:
# - pgbench's own script is extended by one insert: (client, number of its transaction) into `journal`.
#   pgbench's log tells for each of them when the client had the acknowledgement, and how long it took.
# - umbra tells when each phase began and ended, counted from the creation's start, and that start is only
#   known to lie between two readings of our clock: `begun` (before umbra ran) and `ended` less the length
#   of it all. Freeze is taken at its earliest and Thaw at its latest: a transaction of those few
#   milliseconds counts as neither before nor after.
# - pgbench reads a steady clock, shifted once to the time of day. clock_was_set() sees to it that this is
#   still the time of day.

step_count=10
postgres_bin=/usr/lib/postgresql/15/bin
if [ "$quick" = yes ]; then
  scale=2 seconds=3
else
  scale=10 seconds=10
fi
clients=8
freeze_note='the writer notes where the log is; nobody waits'
needed_mib=3500 # Volumes, diff areas, what the second server writes, and a restored copy.

# --- PostgreSQL --------------------------------------------------------------------------------------

[ -x $postgres_bin/postgres ] || {
  say "script/demo postgres needs PostgreSQL 15: apt-get install postgresql-15"
  exit 1
}
# PostgreSQL refuses to run as root. Nothing of the caller's environment (PGHOST ...) may matter.
as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups
  env -i -C / "PATH=$postgres_bin:/usr/bin:/bin" LC_ALL=C TZ=UTC PGCONNECT_TIMEOUT=10)

# serve NAME DIRECTORY SETTING...: starts a server, reached by a socket in $top/NAME only.
declare -A server=()
serve() {
  local option options=()
  for option in "${@:3}"; do options+=(-c "$option"); done
  install -d -o postgres -g postgres -m 0700 "$top/$1"
  start "$1" "${as_postgres[@]}" postgres -D "$2" -c "unix_socket_directories=$top/$1" \
    -c "cluster_name=${top##*/} $1" "${options[@]}"
  server[$1]=$started end_signal[started]=QUIT
  servers+=("$started")
  wait_for 120 is_ready_or_ended "$1" "$2/postmaster.pid" && is_running "$started" ||
    die "the $1 server did not start"
}
is_ready_or_ended() { ! is_running "${server[$1]}" || grep -q '^ready' "$2" 2>/dev/null; }
stop_server() { stop "${server[$1]}" 60 INT || die "the $1 server did not stop"; }

# ask SERVER SQL: sets answer.
ask() {
  run 60 psql "${as_postgres[@]}" psql -XAtq -v ON_ERROR_STOP=1 -h "$top/$1" -d postgres -c "$2" ||
    die "the $1 server: $(<"$top/psql.log")"
  answer=$(<"$top/psql.out")
}

# check_sums SERVER: every transaction added the same amount to one account, one teller and one branch,
# and wrote it down twice.
check_sums() {
  ask "$1" "SELECT sum(abalance), (SELECT sum(tbalance) FROM pgbench_tellers),
      (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
      (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM journal)
    FROM pgbench_accounts"
  IFS='|' read -r accounts tellers branches history transactions journal <<<"$answer"
  [ "$accounts|$tellers|$branches" = "$history|$history|$history" ] && [ "$transactions" = "$journal" ] ||
    die "the $1 server's sums differ: $answer"
}

# check_structure SERVER DIRECTORY: every page and every index; stops the server.
check_structure() {
  run 300 amcheck "${as_postgres[@]}" pg_amcheck -h "$top/$1" --all --heapallindexed --install-missing ||
    die "pg_amcheck: $(head -c 2000 "$top/amcheck.out" "$top/amcheck.log")"
  good "pg_amcheck --all --heapallindexed: every row of every table is in every index"
  stop_server "$1"
  run 300 checksums "${as_postgres[@]}" pg_checksums --check -D "$2" ||
    die "pg_checksums: $(head -c 2000 "$top/checksums.log")"
  pages=$(sed -n 's/^Blocks scanned: *//p' "$top/checksums.out")
  good "pg_checksums --check, after a clean stop: $pages pages, no bad one"
}

# --- the load ------------------------------------------------------------------------------------------

# The seconds that pgbench has reported, and the transactions of the last one.
load_figures() {
  load_seconds=$(grep -c '^progress:' "$top/load.log") || true
  load_tps=$(sed -n '$s/^progress: [0-9.]* s, \([0-9]*\).*/\1/p' "$top/load.log")
}
# has_run SECONDS: of the load; on a terminal, each second is shown.
has_run() {
  is_running "$load_pid" || die "the load ended: $(tail -n 5 "$top/load.log")"
  local before=$load_seconds
  load_figures
  [ "$terminal" = no ] || [ "$before" = "$load_seconds" ] ||
    printf '\r      %s%6d transactions per second%s ' "$dim" "${load_tps:-0}" "$plain"
  ((load_seconds >= $1))
}
let_load_run() {
  load_figures
  wait_for $(($1 * 3 + 30)) has_run $((load_seconds + $1)) || die "the load does not get on"
  [ "$terminal" = no ] || printf '\r%60s\r' ''
}

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
# The time of day less the time since the start of the machine, in ms, read within 10 ms.
clock_offset() {
  local before after now
  for _ in {1..1000}; do
    read -r before _ </proc/uptime
    now=${EPOCHREALTIME/[.,]/}
    read -r after _ </proc/uptime
    ((${after/./} - ${before/./} > 1)) || break
  done
  printf '%s' $((now / 1000 - ${before/./} * 10))
}
clock_was_set() {
  local moved=$(($(clock_offset) - offset_at_start))
  ((moved > 50 || moved < -50))
}

figures() {
  load_seconds=$(grep -c '^progress:' "$top/load.log") || true
  load_tps=$(sed -n '$s/^progress: [0-9.]* s, \([0-9]*\).*/\1/p' "$top/load.log")
}
# has_run SECONDS: of the load; on a terminal, each second is shown.
has_run() {
  is_running "$load_pid" || die "the load ended: $(tail -n 5 "$top/load.log")"
  local before=$load_seconds
  load_figures
  [ "$terminal" = no ] || [ "$before" = "$load_seconds" ] ||
    printf '\r      %s%6d transactions per second%s ' "$dim" "${load_tps:-0}" "$plain"
  ((load_seconds >= $1))
}
let_load_run() {
  load_figures
  wait_for $(($1 * 3 + 30)) has_run $((load_seconds + $1)) || die "the load does not get on"
  [ "$terminal" = no ] || printf '\r%60s\r' ''
}

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
# The time of day less the time since the start of the machine, in ms.
clock_offset() {
  local up
  read -r up _ </proc/uptime
  printf '%s' $((${EPOCHREALTIME/[.,]/} / 1000 - ${up/./} * 10))
}
clock_was_set() {
  local moved=$(($(clock_offset) - offset_at_start))
  ((moved > 50 || moved < -50))
}

figures() { sqlite3 -cmd '.timeout 10000' "$top/figures.db" "$1"; }

# end_load: pgbench ends as if its time were up (-T is an alarm), with its log complete. The log becomes
# table tx of figures.db, the copy's journal table copy.
end_load() {
  kill -ALRM "$load_pid"
  wait_for 60 eval '! is_running $load_pid' || die "the load did not end"
  forget "$load_pid"
  ! clock_was_set || die "this machine's clock was set meanwhile: nothing can be said about order; start again"
  local processed file
  processed=$(sed -n 's/^number of transactions actually processed: \([0-9]*\)$/\1/p' "$top/load.out")
  figures "CREATE TABLE log (client INT, number INT, us INT, script INT, s INT, fraction_us INT)"
  for file in "$top"/load/log.*; do
    sqlite3 -separator ' ' "$top/figures.db" ".import $file log" || die "pgbench's log cannot be read"
  done
  figures "CREATE TABLE copy (client INT, count INT, first INT, last INT)"
  sqlite3 -separator '|' "$top/figures.db" ".import $top/copied copy" || die "the copy's journal cannot be read"
  figures "CREATE TABLE tx AS SELECT client, number, s * 1000000 + fraction_us AS t1,
      s * 1000000 + fraction_us - us AS t0 FROM log;
    CREATE TABLE phase AS SELECT key, json_extract(value, '\$.phase') AS name,
      json_extract(value, '\$.begin_us') AS t0, json_extract(value, '\$.end_us') AS t1
      FROM json_each(CAST(readfile('$top/created.json') AS TEXT), '\$.timeline')"
  [ "$(figures 'SELECT count(*) FROM tx')" = "$processed" ] || die "pgbench's log is not whole"
  # The live server knows the same transactions by the same numbers.
  check_sums first
  ask first 'SELECT client, count(*), max(number) FROM journal GROUP BY client ORDER BY client'
  [ "$answer" = "$(figures 'SELECT client, count(*), max(number) FROM tx GROUP BY client ORDER BY client')" ] ||
    die "the live server's journal is not what pgbench logged"
}

# judge: see the top of this file.
judge() {
  local gaps lost early
  figures "CREATE TABLE bound AS SELECT
      $begun + (SELECT t0 FROM phase WHERE name = 'freeze') AS freeze,
      $ended - (SELECT max(t1) FROM phase) + (SELECT t1 FROM phase WHERE name = 'thaw') AS thaw;
    CREATE TABLE verdict AS SELECT t1 < freeze AS sure, t0 > thaw AS later, number <= coalesce(last, 0) AS copied
      FROM bound, tx LEFT JOIN copy USING (client)"
  gaps=$(figures 'SELECT count(*) FROM copy WHERE first <> 1 OR count <> last')
  IFS='|' read -r acknowledged lost begun_later early between between_copied <<<"$(figures "
    SELECT sum(sure), sum(sure AND NOT copied), sum(later), sum(later AND copied),
      sum(NOT sure AND NOT later), sum(NOT sure AND NOT later AND copied) FROM verdict")"
  [ "$gaps" = 0 ] || die "the copy is NOT good: $gaps clients have gaps in their history"
  [ "$lost" = 0 ] || die "the copy is NOT good: $lost transactions that were acknowledged before the Freeze are missing"
  [ "$early" = 0 ] || die "the copy is NOT good: $early transactions that were begun after the Thaw are in it"
  ((acknowledged > 0 && begun_later > 0)) || die "nothing was acknowledged before or begun after the snapshot"
  ((acknowledged + between_copied == copied)) || die "the copy has transactions that pgbench never logged"
}

# bars UNIT STEP_US ORIGIN_US FROM_US TO_US: acknowledged transactions in each step of that time, which is
# told in s or ms from the origin.
bars() {
  local unit_us=1000
  [ "$1" = ms ] || unit_us=1000000
  figures "
    WITH RECURSIVE step(t) AS (SELECT $4 UNION ALL SELECT t + $2 FROM step WHERE t + 2 * $2 <= $5),
    counted AS (
      SELECT t, (SELECT count(*) FROM tx WHERE t1 >= t AND t1 < t + $2) AS count,
        (SELECT group_concat(label, ', ') FROM (SELECT DISTINCT label FROM moment
          WHERE label <> '' AND t0 < t + $2 AND t1 >= t ORDER BY key)) AS labels
      FROM step)
    SELECT printf('      %+5d $1 %6d  %s%s$plain%s', (t - $3) / $unit_us, count,
      CASE WHEN labels IS NULL THEN '$dim' ELSE '$yellow' END,
      substr(replace(hex(zeroblob(40)), '00', '█'), 1, count * 40 / (SELECT max(1, max(count)) FROM counted)),
      coalesce('  ◀ ' || labels, '')) FROM counted ORDER BY t"
}

# picture: before, during and after, and a closer look. Of umbra's own time most is its start, so the
# phases are drawn as late as they can have been.
picture() {
  figures "
    CREATE INDEX by_time ON tx (t1);
    CREATE TABLE moment AS SELECT key, start + t0 AS t0, start + t1 AS t1,
      CASE WHEN name IN ('end_prepare', 'prepare_for_snapshot') THEN 'prepare'
        WHEN name IN ('freeze', 'hold', 'thaw') THEN name
        WHEN name IN ('pre_commit', 'post_commit') THEN '' ELSE 'finish' END AS label
      FROM phase, (SELECT $ended - max(t1) AS start FROM phase)"
  show "Transactions in each second, from the creation's start:"
  bars s 1000000 "$begun" $((begun - seconds * 1000000)) "$measured"
  local freeze thaw step=10000
  IFS='|' read -r freeze thaw <<<"$(figures "SELECT (SELECT t0 FROM moment WHERE label = 'freeze'),
    (SELECT t1 FROM moment WHERE label = 'thaw')")"
  while ((thaw - freeze + 100000 > 15 * step)); do step=$((step * 2)); done
  show "Closer, in each $((step / 1000)) ms, from the Freeze:"
  bars ms $step "$freeze" $((freeze - 5 * step)) $((thaw + 6 * step))
  local during pause
  IFS='|' read -r tps_before during tps_after tps_lowest pause <<<"$(figures "
    WITH near AS (SELECT t1 - $begun AS t, t1 - lag(t1) OVER (ORDER BY t1) AS pause FROM tx
      WHERE t1 >= $begun - $seconds * 1000000 AND t1 < $measured)
    SELECT count(*) FILTER (WHERE t < 0) / $seconds,
      count(*) FILTER (WHERE t BETWEEN 0 AND $ended - $begun) * 1000000 / ($ended - $begun),
      count(*) FILTER (WHERE t > $ended - $begun) * 1000000 / ($measured - $ended),
      (SELECT min(count) FROM (SELECT count(*) AS count FROM near WHERE t < ($measured - $begun) / 1000000 * 1000000
        GROUP BY (t + $seconds * 1000000) / 1000000)),
      max(pause) FROM near")"
  printf '\n'
  good "transactions per second: $tps_before before, $during during the $(in_ms $((ended - begun))) of the creation, $tps_after after"
  good "lowest second: $tps_lowest; longest time without any acknowledgement: $(in_ms "$pause")"
}

umask 022 # User postgres reads what is made here, and passes through.
start_world $needed_mib
SECONDS=0
printf '\n%sUmbra%s: one snapshot of a PostgreSQL cluster on two volumes, under full load.\n' "$bold" "$plain"
chmod 0711 "$top"
"${as_postgres[@]}" test -x "$top" ||
  die "user postgres cannot enter $top: set TMPDIR to a directory that everybody may enter"

step "Start the two daemons" "In a private directory, $top; nothing else on this machine is touched."
# Nobody is made a member of a group for this: here, writers are the group that PostgreSQL runs as.
printf '[roles]\nwriters = "postgres"\n' >"$top/umbrad.toml"
start_daemons --config "$top/umbrad.toml"

step "Make two volumes" "One for the data, one for the write-ahead log, as a busy database has them."
make_volume data 512M "$top/mnt/data"
good "data.img is attached as $device, formatted with ext4 and mounted"
make_volume wal 1G "$top/mnt/wal"
good "wal.img  is attached as $device, formatted with ext4 and mounted"

step "Make a PostgreSQL cluster across both" "With its own socket, which only root and user postgres reach, and no port. No other cluster is touched."
install -d -o postgres -g postgres -m 0700 "$top/mnt/data/main" "$top/mnt/wal/main" "$top/load"
run 120 initdb "${as_postgres[@]}" initdb -D "$top/mnt/data/main" --waldir="$top/mnt/wal/main" \
  --data-checksums --auth=trust --username=postgres --encoding=UTF8 --locale=C ||
  die "initdb: $(<"$top/initdb.log")"
cat >>"$top/mnt/data/main/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$top/first'
shared_buffers = 64MB
# Room for the log is what the second volume has.
max_wal_size = 256MB
min_wal_size = 96MB
# Gone with the data directory, however the server ends.
dynamic_shared_memory_type = mmap
synchronous_commit = on
END
serve first "$top/mnt/data/main"
run 120 fill "${as_postgres[@]}" pgbench -h "$top/first" -i -q -s $scale postgres || die "pgbench -i: $(<"$top/fill.log")"
ask first 'CREATE TABLE journal (client int, number int, PRIMARY KEY (client, number))'
ask first "SELECT pg_size_pretty(pg_database_size('postgres'))"
good "initialised with checksums and filled by pgbench: $((scale * 100000)) accounts, $answer"

step "Load it fully" \
  "pgbench, $clients clients without a pause. To pgbench's usual transaction one row is added: who did it," \
  "and as the how-manieth. pgbench logs each acknowledgement."
cat >"$top/load/script" <<'SCRIPT'
\set number :number + 1
\set aid random(1, 100000 * :scale)
\set bid random(1, :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO journal VALUES (:client_id, :number);
END;
SCRIPT
offset_at_start=$(clock_offset)
# -T only bounds it: end_load ends it.
start load "${as_postgres[@]}" pgbench -h "$top/first" -n -f "$top/load/script" -D number=0 -D scale=$scale \
  -c $clients -j 2 -M prepared -T 900 -P 1 -l --log-prefix="$top/load/log" postgres
load_pid=$started
let_load_run 3
let_load_run $seconds
good "$load_tps transactions in the last second"

step "Give PostgreSQL a voice" \
  "umbra-writer-postgresql tells which files and volumes the cluster needs, and has a checkpoint made before" \
  "the snapshot so that recovery of the copy is short. As user postgres, with a role that is no superuser."
ask first 'CREATE ROLE umbra LOGIN; GRANT pg_monitor, pg_checkpoint TO umbra'
# A copy, since user postgres may not enter the directory that this was built in.
mkdir "$top/writer"
cp "$(bin umbra-writer-postgresql)" "$(ldd "$(bin umbra-writer-postgresql)" | awk '$1 ~ /^libumbra-writer/ { print $3 }')" \
  "$top/writer"
cat >"$top/writer.toml" <<END
[[cluster]]
name = "demo"
connection = "host=$top/first user=umbra"
END
start writer "${as_postgres[@]}" "LD_LIBRARY_PATH=$top/writer" "$top/writer/umbra-writer-postgresql" \
  --run-dir "$top/run" --config "$top/writer.toml"
writer_pid=$started
wait_for 30 writer_is_there || die "the writer did not register with umbrad"
good "registered: $(json "$top/umbra.json" '$.writers[0].name')"

step "Create one shadow copy set of both volumes, under full load" \
  "umbra create shadow $top/mnt/data $top/mnt/wal --documents $top/backup.umbra.xml"
begun=$(now_us)
umbra_or_die create shadow "$top/mnt/data" "$top/mnt/wal" --documents "$top/backup.umbra.xml"
ended=$(now_us)
cp "$top/umbra.json" "$top/created.json"
for number in 0 1; do
  snapshot[number]=$(json "$top/created.json" "\$.snapshots[$number].snapshot_id")
  of[number]=$(json "$top/created.json" "\$.snapshots[$number].original_volume")
done
[ "$(json "$top/created.json" '$.components[0].name')" = demo ] || die "the cluster was not part of the set"
good "set $(json "$top/created.json" '$.set_id'): both volumes at one instant"
printf '\n'
timeline "$top/created.json"
printf '\n'
show "file systems frozen:      $(in_ms "$(json "$top/created.json" '$.hold.freeze_us')")"
show "writes to the disks held: $(in_ms "$(json "$top/created.json" '$.hold.gate_us')")"
let_load_run $((seconds + 1))
measured=$(now_us) # What comes now takes processor time from the load.

step "Start a second server on the mounted copies, while the load goes on" \
  "The copies are read-only: overlayfs takes what this server writes. For it the instant of the snapshot is" \
  "that of a power cut; it recovers by its write-ahead log."
mkdir "$top/copy" "$top/scratch" "$top/second"
# Not in $top itself: overlayfs does not take every file system for its upper layer.
truncate -s 2G "$top/scratch.img"
mkfs.ext4 -q -F "$top/scratch.img"
mount -o loop "$top/scratch.img" "$top/scratch"
for number in 0 1; do
  name=${volumes[number]}
  mkdir -m 0755 "$top/copy/$name" "$top/second/$name" "$top/scratch/$name" "$top/scratch/$name.work"
  umbra_or_die mount "${snapshot[number]}" "$top/copy/$name"
  mount -t overlay overlay "$top/second/$name" \
    -o "lowerdir=$top/copy/$name,upperdir=$top/scratch/$name,workdir=$top/scratch/$name.work" ||
    die "overlayfs could not be mounted"
done
second=$top/second/data/main
# The copied link leads to the live log, and the copied pid file to the live server.
ln -sfn "$top/second/wal/main" "$second/pg_wal"
rm "$second/postmaster.pid"
[ "$(readlink -f "$second/pg_wal")" = "$top/second/wal/main" ] || die "the second server would write to the live log"
good "mounted: $top/copy/data and $top/copy/wal"
before=$(now_us)
# Not each file by itself: overlayfs would copy every one of them for that.
serve second "$second" recovery_init_sync_method=syncfs
recovery_us=$(($(now_us) - before))
redo=$(sed -n 's/.*LOG:  redo done at .* elapsed: \(.*\)/\1/p' "$top/second.log")
good "recovered as after a power cut in $(in_ms $recovery_us)${redo:+ ($redo of it to read the log)}"
check_sums second
copied=$transactions
good "sum(abalance) = sum(tbalance) = sum(bbalance) = sum(delta): $accounts, over $copied transactions"
ask second 'SELECT client, count(*), min(number), max(number) FROM journal GROUP BY client ORDER BY client'
cp "$top/psql.out" "$top/copied"
check_structure second "$second"

step "Compare with what the clients were told" \
  "The load ends. What its log says was acknowledged before the Freeze must be in the copy's history;" \
  "what was begun after the Thaw must not."
end_load
judge
good "each client's part of the copy is without a gap: its transactions from 1 to a last one"
good "acknowledged before the Freeze was sent: $acknowledged transactions, and all of them are in the copy"
good "begun after the Thaw was over: $begun_later transactions, and none of them is in the copy"
good "in between: $between, of which $between_copied are in the copy"
printf '\n'
picture

step "Restore it to another place, and start a third server" \
  "umbra restore $top/backup.umbra.xml --map $top/mnt=$top/restored" \
  "The writer looks at the place before, and links the data to the log after."
for name in wal data; do umount "$top/second/$name"; done
umount "$top/scratch"
for number in 0 1; do umbra_or_die unmount "${snapshot[number]}"; done
install -d -o postgres -g postgres -m 0700 "$top/restored" "$top/restored/data" "$top/restored/wal"
umbra_or_die restore "$top/backup.umbra.xml" --map "$top/mnt=$top/restored"
third=$top/restored/data/main
[ "$(readlink -f "$third/pg_wal")" = "$top/restored/wal/main" ] || die "the third server would write to another log"
good "restored to $top/restored: $(du -sh "$top/restored" | cut -f1)"
serve third "$third"
check_sums third
[ "$transactions" = "$copied" ] || die "the third server has $transactions transactions, the copy $copied"
ask third 'SELECT client, count(*), min(number), max(number) FROM journal GROUP BY client ORDER BY client'
cmp -s "$top/psql.out" "$top/copied" || die "the third server's journal is not the copy's"
good "it has the same $transactions transactions, with the same sums"
check_structure third "$third"

step "Put everything away" "The images remain plain ext4 file systems: no trace of Umbra in them."
for number in 0 1; do umbra_or_die delete shadows "${snapshot[number]}"; done
stop "$writer_pid" 20 || die "the writer did not stop"
stop_server first
for name in wal data; do put_away $name "$top/mnt/$name"; done
good "the live server stopped cleanly, and its two file systems are sound (e2fsck)"
end_world
good "unmounted, detached, stopped; nothing is left"
printf '\n%s%sPASSED%s in %d s: of %d commits that clients were told of before the Freeze, none is missing in the copy;\n' \
  "$bold" "$green" "$plain" $SECONDS "$acknowledged"
printf '%s pages and all indexes are sound; %s transactions per second before, %s after, %s in the lowest second.\n' \
  "$pages" "$tps_before" "$tps_after" "$tps_lowest"
