#!/usr/bin/env bash
# Runs pagevault and the backup tools people use today side by side on the same database, and prints one
# table of medians. README.md says what is compared and what is not.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tools.sh
. "$here/tools.sh"
# shellcheck source=extras.sh
. "$here/extras.sh"

usage() {
    cat <<'TEXT'
usage: run.sh [--megabytes 500] [--rounds 3] [--hours 24] [--transactions 1000]
              [--large 4000] [--small 1000]
              [--tools pagevault,restic,borg,rustic] [--work DIR] [--results FILE]

Every round builds a database, snapshots it with each tool, then lets it change for some "hours", each
followed by a snapshot with each tool: all hours in the first round, three in the others. At the end of the first
round the first and the last state are restored, once for every round, verified by SHA-256.
Then, pagevault alone, once: a database in rollback mode (every round), one of --large megabytes, and --small
databases in one call; 0 leaves either out.
--work DIR      where databases and vaults go (default: a new folder below $TMPDIR, removed at the end)
--results FILE  keep every single measurement (tab-separated: tool, measure, value)
TEXT
}

megabytes=500 rounds=3 hours=24 transactions=1000 large=4000 small=1000 wanted=pagevault,restic,borg,rustic work='' results=''
while [ $# -gt 0 ]; do
    case $1 in
        --megabytes | --rounds | --hours | --transactions | --large | --small | --work | --results)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        --tools) wanted=${2:?}; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

for program in /usr/bin/time openssl; do
    command -v "$program" >/dev/null || die "$program is missing: run $here/install-peers.sh"
done

pagevault=${PAGEVAULT:-$root/target/release/pagevault}
workload=${WORKLOAD:-$root/target/release/examples/workload}
if [ -z "${WORKLOAD:-}" ]; then
    (cd "$root" && cargo build --release --quiet --bin pagevault --example workload) || die "the build failed"
fi

tools=()
for tool in ${wanted//,/ }; do
    declare -F "${tool}_snapshot" >/dev/null || die "no tool $tool"
    if "${tool}_available"; then tools+=("$tool"); else say "ABSENT: $tool is not compared"; fi
done
[ ${#tools[@]} -gt 0 ] || die "none of the tools is there: run $here/install-peers.sh"

if [ -z "$work" ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/pagevault-compare.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
for left in round rollback large small; do
    [ ! -e "$work/$left" ] || die "$work/$left is in the way: left by an interrupted run?"
done
results=${results:-$work/results.tsv}
: >"$results"

record() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$results"; }

# measure TOOL MEASURE FOLDER COMMAND...: wall and CPU seconds and peak resident MiB of the command. What
# earlier commands wrote is on disk before it starts, so that none pays for another.
measure() {
    local tool=$1 measure=$2 folder=$3 begin end user system peak_kib
    shift 3
    sync
    begin=$EPOCHREALTIME
    (cd "$folder" && exec env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME HOME="$round_home" \
        /usr/bin/time -f '%U %S %M' -o "$work/time" "$@") >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die "$tool failed at $measure: $*"
    }
    end=$EPOCHREALTIME
    read -r user system peak_kib <"$work/time"
    record "$tool" "$measure.wall_s" "$(awk "BEGIN { print $end - $begin }")"
    record "$tool" "$measure.cpu_s" "$(awk "BEGIN { print $user + $system }")"
    record "$tool" "$measure.peak_mib" "$(awk "BEGIN { print $peak_kib / 1024 }")"
}

# Bytes of all files below a folder.
stored_bytes() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

# The tools, beginning with another one each time: who comes first must not matter.
rotated() {
    local shift_by=$(($1 % ${#tools[@]}))
    printf '%s\n' "${tools[@]:shift_by}" "${tools[@]:0:shift_by}"
}

snapshot() {
    local tool=$1 hour=$2 measure=$3
    "${tool}_snapshot" "$hour"
    measure "$tool" "$measure" "$data" "${command[@]}"
    # For how long the application could not write (or its log not be reset): said by the tool that holds it.
    local hold
    hold=$(sed -n 's/.*"hold_ms": *\([0-9]*\).*/\1/p' "$work/log")
    [ -z "$hold" ] || record "$tool" "$measure.hold_s" "$(awk "BEGIN { print $hold / 1000 }")"
}

restore() {
    local tool=$1 hour=$2 measure=$3 sha256=$4 target=$round_folder/restored
    mkdir "$target"
    "${tool}_restore" "$hour" "$target"
    measure "$tool" "$measure" "$target" "${command[@]}"
    [ "$(sha256 "$target/app.db")" = "$sha256" ] || die "$tool restored another file at $measure"
    rm -rf -- "$target"
}

sha256() { openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1; }

run_round() {
    local round=$1 tool hour repeat first_sha256 last_sha256 round_hours=$hours
    local -A before=() after_first=()
    [ "$round" = 1 ] || round_hours=$((hours < 3 ? hours : 3))
    round_folder=$work/round round_home=$work/round/home data=$work/round/data
    mkdir -p "$round_home" "$data"
    "$workload" build "$data/app.db" --megabytes "$megabytes" --seed "$round"
    first_sha256=$(sha256 "$data/app.db")
    measure floor sha256 "$data" openssl dgst -sha256 app.db
    measure floor copy "$data" cp --reflink=never app.db ../copy.db
    rm "$round_folder/copy.db"
    for tool in $(rotated "$round"); do
        "${tool}_configure" "$round_folder/$tool"
        "${tool}_init"
        measure "$tool" init "$data" "${command[@]}"
        snapshot "$tool" 0 first
        after_first[$tool]=$(stored_bytes "$round_folder/$tool")
        record "$tool" first.stored "${after_first[$tool]}"
        snapshot "$tool" again unchanged
        before[$tool]=$(stored_bytes "$round_folder/$tool")
    done
    for ((hour = 1; hour <= round_hours; hour++)); do
        "$workload" churn "$data/app.db" --transactions "$transactions" --seed $((1000 * round + hour))
        for tool in $(rotated "$hour"); do
            snapshot "$tool" "$hour" hourly
            [ "$hour" != 1 ] ||
                record "$tool" hourly.stored_once $(($(stored_bytes "$round_folder/$tool") - before[$tool]))
        done
    done
    [ "$round" != 1 ] || restore_round
    rm -rf -- "$round_folder"
}

restore_round() {
    last_sha256=$(sha256 "$data/app.db")
    for tool in "${tools[@]}"; do
        record "$tool" hourly.stored_all $(($(stored_bytes "$round_folder/$tool") - before[$tool]))
    done
    for ((repeat = 1; repeat <= rounds; repeat++)); do
        for tool in $(rotated "$repeat"); do
            restore "$tool" 0 restore_first "$first_sha256"
            restore "$tool" "$hours" restore_last "$last_sha256"
            # What the others leave to the user.
            if [ "$tool" = pagevault ]; then
                check=full restore pagevault "$hours" restore_checked "$last_sha256"
            fi
        done
    done
}

for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    run_round "$round"
    [[ " ${tools[*]} " != *" pagevault "* ]] || run_rollback "$round"
done
if [[ " ${tools[*]} " = *" pagevault "* ]]; then
    [ "$large" = 0 ] || { say "a database of $large MB"; run_large; }
    [ "$small" = 0 ] || { say "$small databases"; run_small; }
fi

# The table: a line of text, its measure, its unit and the floor that no tool can pass.
{
    printf '%s\n' \
        "init, wall|init.wall_s|s|" \
        "first snapshot, wall|first.wall_s|s|sha256.wall_s" \
        "first snapshot, CPU|first.cpu_s|s|sha256.cpu_s" \
        "first snapshot, peak memory|first.peak_mib|MiB|" \
        "first snapshot, stored|first.stored|B|" \
        "unchanged database, wall|unchanged.wall_s|s|" \
        "unchanged database, CPU|unchanged.cpu_s|s|" \
        "hourly snapshot, wall|hourly.wall_s|s|sha256.wall_s" \
        "hourly snapshot, CPU|hourly.cpu_s|s|sha256.cpu_s" \
        "hourly snapshot, peak memory|hourly.peak_mib|MiB|" \
        "first hourly, stored|hourly.stored_once|B|" \
        "$hours hourlies, stored|hourly.stored_all|B|" \
        "restore of the first, wall|restore_first.wall_s|s|copy.wall_s" \
        "restore of the first, CPU|restore_first.cpu_s|s|copy.cpu_s" \
        "restore of the last, wall|restore_last.wall_s|s|copy.wall_s" \
        "restore of the last, CPU|restore_last.cpu_s|s|copy.cpu_s" \
        "restore of the last, peak memory|restore_last.peak_mib|MiB|" \
        "restore of the last and SQLite's full check, wall|restore_checked.wall_s|s|" \
        "hold of an hourly snapshot, WAL mode|hourly.hold_s|s|" \
        "hold of an hourly snapshot, rollback mode|rollback_hourly.hold_s|s|" \
        "hourly snapshot, rollback mode, wall|rollback_hourly.wall_s|s|sha256.wall_s" \
        "first snapshot of $large MB, wall|large_first.wall_s|s|large_sha256.wall_s" \
        "first snapshot of $large MB, peak memory|large_first.peak_mib|MiB|" \
        "hourly snapshot of $large MB, wall|large_hourly.wall_s|s|large_sha256.wall_s" \
        "hourly snapshot of $large MB, peak memory|large_hourly.peak_mib|MiB|" \
        "restore of $large MB, wall|large_restore.wall_s|s|" \
        "restore of $large MB, peak memory|large_restore.peak_mib|MiB|" \
        "$small small databases in one call, wall|small_first.wall_s|s|" \
        "$small small databases, peak memory|small_first.peak_mib|MiB|" \
        "$small databases, unchanged, wall|small_unchanged.wall_s|s|" \
        "$small databases, unchanged, stored|small_unchanged.stored|B|"
} >"$work/lines"

printf '%s MB, %s hours of %s transactions, medians of %s round(s); %s CPUs (%s), Linux %s, load %s\n\n' \
    "$megabytes" "$hours" "$transactions" "$rounds" "$(nproc)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)" "$(cut -d ' ' -f 1-3 /proc/loadavg)"
headings=''
for tool in "${tools[@]}"; do headings+="${headings:+|}$tool $("${tool}_version")"; done
awk -v tools="${tools[*]}" -v headings="$headings" -f "$here/table.awk" "$work/lines" "$results"
