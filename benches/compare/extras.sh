# shellcheck shell=bash disable=SC2034,SC2154
# What only pagevault is measured for, sourced by run.sh: the hold in rollback mode, a large database, many
# small ones. Uses run.sh's functions and variables.

# pagevault_only FOLDER: a vault of its own there, and the folders that `measure` wants.
pagevault_only() {
    round_folder=$1 round_home=$1/home data=$1/data
    mkdir -p "$round_home" "$data"
    pagevault_configure "$round_folder/pagevault"
    pagevault_init
    measure pagevault extra_init "$data" "${command[@]}"
}

# In rollback mode writers wait while the database is read: what counts is for how long.
run_rollback() {
    local round=$1 hour
    pagevault_only "$work/rollback"
    "$workload" build "$data/app.db" --megabytes "$megabytes" --journal delete --seed "$round"
    snapshot pagevault 0 rollback_first
    for ((hour = 1; hour <= 3; hour++)); do
        "$workload" churn "$data/app.db" --transactions "$transactions" --seed $((1000 * round + hour))
        snapshot pagevault "$hour" rollback_hourly
    done
    rm -rf -- "$work/rollback"
}

# Memory must not follow the size of the database.
run_large() {
    local sha256
    pagevault_only "$work/large"
    "$workload" build "$data/app.db" --megabytes "$large"
    snapshot pagevault 0 large_first
    "$workload" churn "$data/app.db" --transactions "$transactions" --seed 2
    snapshot pagevault 1 large_hourly
    sha256=$(sha256 "$data/app.db")
    measure floor large_sha256 "$data" openssl dgst -sha256 app.db
    # The vault is all that is needed now, and disks are not endless.
    rm -- "$data/app.db"
    restore pagevault 1 large_restore "$sha256"
    rm -rf -- "$work/large"
}

# One call, one vault, one set of packs.
run_small() {
    local before
    pagevault_only "$work/small"
    seq 1 "$small" | xargs -P 2 -I N "$workload" build "$data/N.db" --megabytes 1 --seed N
    command=(sh -c 'exec "$@" ./*.db' sh "$pagevault" --key-file "$pagevault_key" --json snapshot)
    measure pagevault small_first "$data" "${command[@]}"
    reported=$(grep -c '"snapshot_id"' "$work/log")
    [ "$reported" = "$small" ] || die "$reported of $small databases were reported"
    before=$(stored_bytes "$round_folder/pagevault")
    measure pagevault small_unchanged "$data" "${command[@]}"
    record pagevault small_unchanged.stored $(($(stored_bytes "$round_folder/pagevault") - before))
    record pagevault small_first.objects "$(find "$round_folder/pagevault" -type f | wc -l)"
    rm -rf -- "$work/small"
}
