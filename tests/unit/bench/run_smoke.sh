#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_smoke.sh UMBRA-BENCH: every key once in smoke size, each with a line that has all its fields, and
# the page made of them.
set -euo pipefail
bench=$1
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
"$bench" run --all --smoke --json >"$top/lines" 2>"$top/progress" || {
  cat "$top/lines" "$top/progress" >&2
  exit 1
}
cat "$top/progress"
"$bench" list >"$top/list"
"$bench" report "$top/lines" >"$top/page.html"
python3 - "$top" <<'PYTHON'
import json, sys, xml.dom.minidom, re
top = sys.argv[1]
listed = [line.split()[0] for line in open(top + "/list")]
lines = [json.loads(line) for line in open(top + "/lines")]
assert set(lines[0]["machine"]) >= {"cpu", "cores", "kernel", "medium", "commit", "compiler"}, lines[0]
assert [line["key"] for line in lines[1:]] == listed, "a key is missing"
fields = {"key", "median", "min", "max", "low", "high", "reps", "target", "met", "baseline", "medium"}
for line in lines[1:]:
    assert fields <= set(line), line
    if line["median"] is None:
        assert line["skipped"], line
        print("skipped:", line["key"], line["skipped"])
    else:
        assert line["reps"] == 2 and 0 < line["min"] <= line["median"] <= line["max"], line
        assert line["baseline"] and line["medium"] and line["digest"] != "00000000", line
        assert line["low"] is None and line["met"] is not True, f"nothing is sure of two runs: {line}"
page = open(top + "/page.html").read()
assert page.startswith("<!DOCTYPE html>") and "<script" not in page and "http" not in page
drawings = re.findall(r"<svg.*?</svg>", page, re.S)
assert len(drawings) >= 8, "drawings are missing"
for drawing in drawings:
    xml.dom.minidom.parseString(drawing)
assert all(f"<code>{key}</code>" in page for key in listed)
PYTHON
