#!/usr/bin/env bash
# Counts the instructions of each stage of the hot path under valgrind: see README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

megabytes=8
stages=(capture chunk-ids sha256 encode-full decode-full encode-delta decode-delta seal open
        index-look-up first-snapshot hourly-snapshot assemble)
[ $# -eq 0 ] || stages=("$@")

command -v valgrind >/dev/null || { echo "valgrind is not installed (apt-get install valgrind)" >&2; exit 1; }
cargo build --quiet --release --example workload
program=$(cargo bench --no-run --bench instructions 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
[ -x "$program" ] || { echo "the program was not built" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
workload=target/release/examples/workload
"$workload" build "$folder/before.db" --megabytes "$megabytes" --seed 1
cp "$folder/before.db" "$folder/after.db"
"$workload" churn "$folder/after.db" --transactions $((megabytes * 20)) --seed 2
bytes=$(stat -c %s "$folder/before.db")
chunk=65536
changed=$(cmp -l "$folder/before.db" "$folder/after.db" 2>/dev/null | awk -v c=$chunk '{ seen[int(($1 - 1) / c)] = 1 }
          END { n = 0; for (i in seen) n++; print n }' || true)

count() { # STAGE ROUNDS
    valgrind --tool=callgrind --callgrind-out-file="$folder/$1.$2" \
        "$program" "$1" "$2" "$folder/before.db" "$folder/after.db" 2>"$folder/log" ||
        { cat "$folder/log" >&2; return 1; }
    sed -n 's/^\(summary\|totals\): *//p' "$folder/$1.$2" | tail -n 1
}

recorded() { # STAGE
    awk -F'|' -v stage="$1" '{ gsub(/[ `]/, "", $2) } $2 == stage { gsub(/[ ,]/, "", $3); print $3 }' \
        benches/instructions/README.md
}

printf '| %-15s | %15s | %9s | %8s |\n' stage 'instructions' 'per byte' change
echo '|---|---|---|---|'
for stage in "${stages[@]}"; do
    once=$(count "$stage" 1)
    thrice=$(count "$stage" 3)
    case $stage in
        *-delta) over=$((changed * chunk)) ;;
        *) over=$bytes ;;
    esac
    awk -v stage="$stage" -v instructions=$(((thrice - once) / 2)) -v over="$over" -v old="$(recorded "$stage")" '
        BEGIN {
            change = old > 0 ? sprintf("%+.1f %%", 100 * (instructions - old) / old) : "-"
            printf "| %-15s | %15d | %9.2f | %8s |\n", stage, instructions, instructions / over, change
        }'
done
