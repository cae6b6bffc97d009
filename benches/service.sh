#!/bin/bash
# What scheduled runs cost where nothing happens: COUNT configured databases that do not change.
#
#   benches/service.sh PAGEVAULT [COUNT] [SECONDS]
#
# PAGEVAULT is the program (cargo build --release). Prints the first round, the CPU time and memory of a service at rest over
# SECONDS (60), and what a minute costs in which all are due. Needs python3.
set -euo pipefail
pagevault=$(realpath "$1") count=${2:-1000} seconds=${3:-60}
place=$(mktemp -d)
service=
trap '[ -n "$service" ] && kill "$service" 2>/dev/null; rm -rf "$place"' EXIT
export HOME=$place PAGEVAULT_CONFIG=$place/config.toml
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME XDG_STATE_HOME PAGEVAULT_VAULT PAGEVAULT_KEY_FILE
mkdir "$place/db"
python3 - "$place/db" "$count" <<'PYTHON'
import sqlite3, sys
for number in range(int(sys.argv[2])):
    db = sqlite3.connect(f"{sys.argv[1]}/d{number}.db")
    if number % 2:
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t(x)")
    db.executemany("INSERT INTO t VALUES(?)", [("row %d of %d" % (row, number),) for row in range(200)])
    db.commit()
    db.close()
PYTHON
configure() {
  cat >"$place/config.toml" <<EOF
[vault]
path = "vault"
key_file = "key"
[retention]
keep_daily = 30
[check]
schedule = "0 3 1 1 *"
test_restore = "0 3 1 1 *"
[[database]]
glob = "$place/db/*.db"
schedule = "$1"
max_age = "1d"
EOF
}
configure "every 1h"
"$pagevault" init --vault "$place/vault" --generate-key-file "$place/key" --quiet
sleep 1
"$pagevault" run --once -v 2>&1 | grep ' due: ' | sed 's/^/first round: /'

cpu() { awk '{print $14 + $15}' "/proc/$service/stat"; }
start() {
  "$pagevault" run -v 2>"$place/log" &
  service=$!
  sleep 5
}
finish() {
  kill "$service"
  wait "$service" || true
  service=
}

start
before=$(cpu)
sleep "$seconds"
ticks=$(($(cpu) - before))
echo "at rest: $((ticks * 1000 / $(getconf CLK_TCK))) ms of CPU in $seconds s," \
  "$(awk '/VmHWM/ {print $2}' "/proc/$service/status") KiB at most"
finish

configure "every 1m"
start
sleep 130
grep ' due: ' "$place/log" | sed 's/^/due: /'
echo "all due: $(awk '/VmHWM/ {print $2}' "/proc/$service/status") KiB at most"
finish
