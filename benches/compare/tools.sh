# shellcheck shell=bash disable=SC2034
# The tools that run.sh compares. Each is six functions; those that run something set the array `command`,
# which runs in the database's folder (snapshots) or in the empty target folder (restores).
#
#   X_available, X_version
#   X_configure FOLDER        where its vault is: everything in FOLDER counts as stored
#   X_init
#   X_snapshot HOUR           of app.db
#   X_restore HOUR TARGET     leaves TARGET/app.db
#
# All encrypt and all compress with zstd at their default level, or about level 3.

export RESTIC_PASSWORD=comparison BORG_PASSPHRASE=comparison RUSTIC_PASSWORD=comparison

# --- pagevault: unlocked with a key file, which costs no key derivation. Restores are verified by SHA-256, as every
# restore is; SQLite's check, which the others have not, is timed apart (`check=full`)

pagevault_available() { [ -x "$pagevault" ] && [ -n "$("$pagevault" snapshot --help 2>/dev/null)" ]; }
pagevault_version() { "$pagevault" --version | cut -d ' ' -f 2; }
pagevault_configure() {
    export PAGEVAULT_VAULT=$1
    pagevault_key=$1.key
}
pagevault_init() { command=("$pagevault" init --generate-key-file "$pagevault_key"); }
pagevault_snapshot() { command=("$pagevault" --key-file "$pagevault_key" --json snapshot app.db); }
pagevault_restore() {
    local id=latest
    if [ "$1" = 0 ]; then
        # The list is ordered by time.
        id=$("$pagevault" --key-file "$pagevault_key" --json list | grep -o '"snapshot_id": *"[^"]*"' | head -n 1)
        id=${id%\"} id=${id##*\"}
    fi
    command=("$pagevault" --key-file "$pagevault_key" restore "$id" --to "$2/app.db" --check "${check:-none}")
}

# --- restic

restic_available() { command -v restic >/dev/null; }
restic_version() { restic version | cut -d ' ' -f 2; }
restic_configure() { export RESTIC_REPOSITORY=$1; }
restic_init() { command=(restic init --repository-version latest); }
restic_snapshot() { command=(restic backup --tag "hour-$1" app.db); }
restic_restore() { command=(restic restore latest --tag "hour-$1" --target "$2"); }

# --- borg

borg_available() { command -v borg >/dev/null; }
borg_version() { borg --version | cut -d ' ' -f 2; }
borg_configure() { export BORG_REPO=$1; }
borg_init() { command=(borg init --encryption repokey-blake2); }
borg_snapshot() { command=(borg create --compression zstd,3 "::hour-$1" app.db); }
borg_restore() { command=(borg extract "::hour-$1"); }

# --- rustic

rustic_available() { command -v rustic >/dev/null; }
rustic_version() { rustic --version | cut -d ' ' -f 2; }
rustic_configure() { export RUSTIC_REPOSITORY=$1; }
rustic_init() { command=(rustic --no-progress init); }
rustic_snapshot() { command=(rustic --no-progress backup --tag "hour-$1" app.db); }
rustic_restore() { command=(rustic --no-progress restore --filter-tags "hour-$1" latest "$2"); }
