#!/bin/bash
# Kills snapshot, forget, prune and restore with SIGKILL at random moments, and looks after each kill whether a snapshot
# that was reported as done is lost, or a command needs help. After a killed forget all that its plan named is gone, or nothing,
# and one of those that are comes back by undelete.
#
#   tests/kill_loop.sh PAGEVAULT WORKLOAD [KILLS]
#
# PAGEVAULT is the program, WORKLOAD the example of the same name (cargo build --release --bin pagevault --example workload).
# KILLS is 500 if not given; SEED repeats the choice of commands (not the moments, which are those of the machine).
set -u
pagevault=$(realpath "$1") workload=$(realpath "$2") wanted=${3:-500}
RANDOM=${SEED:-1}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export HOME=$place/home PAGEVAULT_VAULT=$place/vault PAGEVAULT_KEY_FILE=$place/key
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME XDG_STATE_HOME
mkdir -p "$HOME"
database=$place/app.db
declare -A sums         # snapshots that must be there: id -> SHA-256
declare -A killed ended # by command
kills=0 lost=0 helped=0 verified=0 returned=0 seed=100

fail() { echo "FAILED: $*"; helped=$((helped + 1)); }
run() { "$pagevault" --no-progress "$@" 2>"$place/stderr" || { fail "$* ($?): $(cat "$place/stderr")"; return 1; }; }
field() { sed -n "s/.*\"$1\":\"\([0-9a-f]*\)\".*/\1/p" <<<"$2" | head -1; }
# Field of each snapshot in an array of them.
ids() { grep -o '"snapshot_id":"[0-9a-f]*"' | cut -d'"' -f4; }

remember() { # the line that a snapshot printed, if it printed one
  local line id
  line=$(cat "$place/stdout" 2>/dev/null) id=$(field snapshot_id "$line")
  [ -n "$id" ] && sums[$id]=$(field sha256 "$line")
}

look() { # every snapshot that was reported is still there
  local id there
  there=$(run list --json | ids | sort)
  for id in "${!sums[@]}"; do
    grep -q "$id" <<<"$there" || { echo "LOST: $id"; lost=$((lost + 1)); unset "sums[$id]"; }
  done
}

prove() { # a snapshot restores to the bytes it was made of
  local id=$1
  rm -f "$place/proof.db"
  run restore "$id" --to "$place/proof.db" --check none --quiet >/dev/null
  [ "$(sha256sum <"$place/proof.db" | cut -d' ' -f1)" = "${sums[$id]}" ] || { echo "WRONG: $id"; lost=$((lost + 1)); }
  verified=$((verified + 1))
}

plan() { # what a forget would let go
  run forget --keep-last 6 --dry-run --json | sed 's/"kept":.*//' | ids | sort
}

let_go() { # after a forget with this plan, killed or not
  local there forgotten id gone=()
  there=$(run list --json | ids) forgotten=$(run list --forgotten --json | ids)
  for id in $1; do grep -q "$id" <<<"$there" || gone+=("$id"); done
  [ ${#gone[@]} -eq 0 ] && return
  [ ${#gone[@]} -eq "$(wc -w <<<"$1")" ] || { echo "LOST: a part of what was planned is gone"; lost=$((lost + 1)); }
  for id in "${gone[@]}"; do
    grep -q "$id" <<<"$forgotten" || { echo "LOST: $id cannot come back"; lost=$((lost + 1)); }
  done
  id=${gone[$((RANDOM % ${#gone[@]}))]}
  run undelete "$id" --yes --quiet >/dev/null
  [ -n "${sums[$id]:-}" ] && prove "$id"
  returned=$((returned + 1))
  run forget "$id" --yes --quiet >/dev/null
  for id in "${gone[@]}"; do unset "sums[$id]"; done
}

"$workload" build "$database" --megabytes 8 --seed 1 >/dev/null || exit 1
run init --generate-key-file "$place/key" >/dev/null || exit 1
run snapshot "$database" --json >"$place/stdout" && remember

while [ "$kills" -lt "$wanted" ] && [ "$helped" -lt 5 ]; do
  seed=$((seed + 1))
  "$workload" churn "$database" --transactions 30 --seed $seed >/dev/null
  case $((RANDOM % 10)) in
  [0-4]) verb=snapshot command=(snapshot "$database" --json) ;;
  5) verb=forget command=(forget --keep-last 6 --yes --quiet) ;;
  [6-7]) verb=prune command=(prune --grace 0s --max-unused 0% --yes --quiet) ;;
  *) verb=restore command=(restore app@latest --to "$place/restored.db" --yes --quiet) ;;
  esac
  : >"$place/stdout"
  [ $verb = forget ] && planned=$(plan)
  "$pagevault" --no-progress "${command[@]}" >"$place/stdout" 2>"$place/stderr" &
  pid=$!
  sleep "0.$(printf %03d $((RANDOM % ${SLOWEST_MS:-250})))"
  # A process that has just ended is no kill.
  if kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null; [ $? -eq 137 ]; then
    kills=$((kills + 1)) killed[$verb]=$((${killed[$verb]:-0} + 1))
  else
    ended[$verb]=$((${ended[$verb]:-0} + 1))
    [ -s "$place/stderr" ] && grep -q '^error' "$place/stderr" && fail "$verb: $(cat "$place/stderr")"
  fi
  [ $verb = snapshot ] && remember
  [ $verb = forget ] && let_go "$planned"
  look
  if [ $((seed % 10)) -eq 0 ]; then
    run check >"$place/check" || cat "$place/check"
    list=("${!sums[@]}")
    [ ${#list[@]} -gt 0 ] && prove "${list[$((RANDOM % ${#list[@]}))]}"
  fi
  [ $((seed % 100)) -eq 0 ] && echo "$kills kills ..."
done

# Nothing needs help: the next of each command works, and every snapshot is what it was.
run snapshot "$database" --json >"$place/stdout" && remember
planned=$(plan)
run forget --keep-last 6 --yes --quiet
let_go "$planned"
look
run prune --grace 0s --yes --json >"$place/pruned"
run check --read-data --test-restore >"$place/check" || cat "$place/check"
for id in "${!sums[@]}"; do prove "$id"; done
leftover=$(find "$PAGEVAULT_VAULT" -name '.tmp-*' | wc -l)
echo "kills: $kills (snapshot ${killed[snapshot]:-0}, forget ${killed[forget]:-0}, prune ${killed[prune]:-0}, restore ${killed[restore]:-0})"
echo "ended by themselves: snapshot ${ended[snapshot]:-0}, forget ${ended[forget]:-0}, prune ${ended[prune]:-0}, restore ${ended[restore]:-0}"
echo "snapshots lost: $lost"
echo "commands that needed help: $helped"
echo "forgotten snapshots brought back: $returned"
echo "snapshots restored and compared: $verified, temporary files left: $leftover"
[ "$lost" -eq 0 ] && [ "$helped" -eq 0 ]
