#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# soak_smoke.sh UMBRA-BENCH: `soak` in smoke size does each thing, says what it has to, and ends by a
# signal with nothing left.
set -euo pipefail
bench=$1
top=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true; rm -rf "$top"' EXIT
mkdir "$top/files"

left() { # Processes whose command line names the directory; zombies have none.
  local file words
  for file in /proc/[0-9]*/cmdline; do
    { mapfile -d '' words <"$file"; } 2>/dev/null || continue
    [[ "${words[*]}" != *"$top/"* ]] || echo "$file ${words[*]}"
  done
}
expect_nothing_left() {
  [ -z "$(left)" ] || { echo "$1: processes are left: $(left)" >&2; exit 1; }
  [ -z "$(ls -A "$top/files")" ] || { echo "$1: files are left: $(ls "$top/files")" >&2; exit 1; }
}

"$bench" soak --smoke --json --directory "$top/files" >"$top/lines" 2>"$top/log" || {
  cat "$top/lines" "$top/log" >&2
  exit 1
}
expect_nothing_left "soak --smoke"
"$bench" report "$top/lines" >"$top/page.html"
python3 - "$top" <<'PYTHON'
import json, re, sys, xml.dom.minidom
top = sys.argv[1]
machine, line = (json.loads(text) for text in open(top + "/lines"))
soak = line["soak"]
assert machine["machine"]["kernel"] and soak["smoke"] and soak["seconds"] > 0 and soak["digest"] != "00000000", soak
never = [name for name, count in soak["counts"].items() if count == 0]
assert not never, f"not done once: {never}"
assert len(soak["drift"]) == len(soak["series"]) == 6, soak
for one in soak["drift"]:
    assert one["samples"] >= 1 and one["first_quarter"] > 0 and one["last_quarter"] > 0, one
    assert isinstance(one["slope_per_hour"], (int, float)), one
page = open(top + "/page.html").read()
drawings = re.findall(r"<svg.*?</svg>", page, re.S)
assert len(drawings) == 3 and "memory of umbra-cowd" in page, "the page lacks the long run"
for drawing in drawings:
    xml.dom.minidom.parseString(drawing)
PYTHON

begin_soak() { # Returns in the midst of it: there is a volume, and the servers run.
  local end=$((SECONDS + 60))
  "$bench" soak --minutes 60 --directory "$top/files" >"$top/log" 2>&1 &
  pid=$!
  until [ "$(left | wc -l)" -ge 4 ] && compgen -G "$top/files/*/*.diff" >/dev/null; do
    ((SECONDS < end)) || { echo "the soak does not begin" >&2; cat "$top/log" >&2; exit 1; }
    kill -0 "$pid" 2>/dev/null || { echo "the soak ended" >&2; cat "$top/log" >&2; exit 1; }
    read -rt 0.02 <> <(:) || true
  done
}
begin_soak
kill -INT "$pid"
status=0
wait "$pid" || status=$?
pid=
[ "$status" -eq 130 ] || { echo "SIGINT: exit status $status" >&2; cat "$top/log" >&2; exit 1; }
expect_nothing_left "SIGINT"

# Somebody writes to a volume behind its back, again and again since it may be written over.
begin_soak
image=$(compgen -G "$top/files/*/volume1.img")
end=$((SECONDS + 120))
while kill -0 "$pid" 2>/dev/null; do
  ((SECONDS < end)) || { echo "wrong data is not found" >&2; exit 1; }
  dd if=/dev/urandom of="$image" bs=1M count=1 seek=7 conv=notrunc,nocreat status=none 2>/dev/null || true
  read -rt 0.1 <> <(:) || true
done
status=0
wait "$pid" || status=$?
pid=
[ "$status" -eq 1 ] && grep -q "wrong data" "$top/log" || {
  echo "wrong data: exit status $status" >&2
  cat "$top/log" >&2
  exit 1
}
expect_nothing_left "wrong data"
status=0
"$bench" soak --minutes 0 >"$top/log" 2>&1 || status=$?
[ "$status" -eq 2 ] || { echo "--minutes 0: exit status $status" >&2; exit 1; }
