#!/usr/bin/env bash
# The same database kept in a folder and on an S3 server on this machine, in one run: what the way there costs.
# Needs s3s-fs (`cargo install s3s-fs --version 0.14.1 --features binary`) on the PATH.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'TEXT'
usage: remote.sh [--megabytes 500] [--hours 24] [--transactions 1000] [--latency 50] [--restores 3] [--work DIR]

PAGEVAULT, WORKLOAD, LINE name the programs; else a release build of this tree is made.
TEXT
}

megabytes=500 hours=24 transactions=1000 latency=50 restores=3 work=''
while [ $# -gt 0 ]; do
    case $1 in
        --megabytes | --hours | --transactions | --latency | --restores | --work)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

server=$(command -v s3s-fs) || die "s3s-fs is missing: cargo install s3s-fs --version 0.14.1 --features binary"
pagevault=${PAGEVAULT:-$root/target/release/pagevault}
workload=${WORKLOAD:-$root/target/release/examples/workload}
line=${LINE:-$root/target/release/examples/line}
if [ -z "${PAGEVAULT:-}" ]; then
    (cd "$root" && cargo build --release --quiet --bin pagevault --example workload --example line) || die "the build failed"
fi

started=()
finish() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    rm -rf -- "$own"
}
own=''
trap finish EXIT
if [ -z "$work" ]; then
    own=$(mktemp -d "${TMPDIR:-/tmp}/pagevault-remote.XXXXXX")
    work=$own
fi
mkdir -p "$work"/{objects/bucket,local,s3,far,copy,data}

# A port that was free a moment ago.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export AWS_ACCESS_KEY_ID=AKMEASURE AWS_SECRET_ACCESS_KEY=measure-only
"$server" --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
    --host 127.0.0.1 --port "$port" "$work/objects" >"$work/server.log" 2>&1 &
started+=($!)
"$line" "$port" "$latency" >"$work/line.port" &
started+=($!)
for _ in {1..100}; do
    [ -s "$work/line.port" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
far_port=$(cat "$work/line.port")

declare -A vault=(
    [local]=$work/local/vault
    [s3]="s3://bucket/vault?endpoint=http://127.0.0.1:$port"
    [far]="s3://bucket/vault?endpoint=http://127.0.0.1:$far_port"
    [copy]="s3://bucket/copy?endpoint=http://127.0.0.1:$port"
)

# run WHO ARGUMENTS...: the program with a home of its own; JSON to $work/json, seconds to $seconds.
run() {
    local who=$1 begin end
    shift
    sync
    begin=$EPOCHREALTIME
    env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u XDG_STATE_HOME HOME="$work/$who" \
        "$pagevault" --json --key-file "$work/key" --vault "${vault[$who]}" "$@" >"$work/json" 2>"$work/log" ||
        { cat "$work/log" >&2; die "$who: $*"; }
    end=$EPOCHREALTIME
    seconds=$(awk "BEGIN { print $end - $begin }")
}

# What a field of the result says; nothing if it is not there.
field() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1]))
for part in sys.argv[2].split("."): v = v[int(part) if part.isdigit() else part]
print(v)' "$work/json" "$1" 2>/dev/null || true; }
requests() { python3 -c 'import json, sys; r = json.load(open(sys.argv[1]))["requests"][0]
print("%d requests (get %d, range %d, put %d, list %d), %.1f MB read, %.2f MB written" % (
    sum(r[k] for k in ("get", "get_range", "size", "put", "list", "delete")),
    r["get"], r["get_range"], r["put"], r["list"], r["bytes_read"] / 1e6, r["bytes_written"] / 1e6))' "$work/json"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
stored() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }

"$workload" build "$work/data/app.db" --megabytes "$megabytes" --seed 1 >/dev/null
HOME=$work/local "$pagevault" --quiet init --vault "${vault[local]}" --generate-key-file "$work/key" >/dev/null
run s3 init

declare -A first=()
for who in local s3; do
    run "$who" snapshot "$work/data/app.db"
    first[$who]=$seconds
done
echo "first snapshot: local ${first[local]} s, s3 ${first[s3]} s, ratio $(ratio "${first[s3]}" "${first[local]}")"
echo "    $(requests)"

for ((hour = 1; hour <= hours; hour++)); do
    "$workload" churn "$work/data/app.db" --transactions "$transactions" --seed $((1000 + hour)) >/dev/null
    [ "$hour" != "$hours" ] || { run local sync "${vault[copy]}"; before=$(stored "$work/local/vault"); }
    order=(local s3)
    [ $((hour % 2)) = 0 ] || order=(s3 local)
    for who in "${order[@]}"; do
        run "$who" snapshot "$work/data/app.db"
        echo "$seconds" >>"$work/hourly.$who"
        [ "$who" != s3 ] || hourly_requests=$(requests)
    done
done
hourly_local=$(median <"$work/hourly.local") hourly_s3=$(median <"$work/hourly.s3")
echo "hourly snapshot, median of $hours: local $hourly_local s, s3 $hourly_s3 s, ratio $(ratio "$hourly_s3" "$hourly_local")"
echo "    the last: $hourly_requests"

added=$(($(stored "$work/local/vault") - before))
run local sync "${vault[copy]}"
moved=$(field requests.0.bytes_written)
echo "sync of hour $hours: $added bytes stored, $moved moved, ratio $(ratio "$moved" "$added"), $seconds s"
echo "    $(requests)"

expected=$(openssl dgst -sha256 -r "$work/data/app.db" | cut -d ' ' -f 1)
for ((round = 1; round <= restores; round++)); do
    for who in local s3 far; do
        # As another machine would: nothing of the vault is here.
        rm -rf -- "$work/$who/.cache" "$work/restored.db"
        run "$who" restore latest --to "$work/restored.db" --check none
        [ "$(openssl dgst -sha256 -r "$work/restored.db" | cut -d ' ' -f 1)" = "$(field sha256)" ] || die "other bytes"
        echo "$seconds" >>"$work/restore.$who"
        [ "$who" = local ] || requests >"$work/restore.$who.requests"
    done
done
restore_local=$(median <"$work/restore.local")
for who in s3 far; do
    taken=$(median <"$work/restore.$who")
    what=$who
    [ "$who" = s3 ] || what="s3 with $latency ms for each request"
    echo "restore, median of $restores, empty cache: local $restore_local s, $what $taken s, ratio $(ratio "$taken" "$restore_local")"
    echo "    $(cat "$work/restore.$who.requests")"
done
