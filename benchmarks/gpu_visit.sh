#!/usr/bin/env bash
# All that is to be measured on a GPU, in one call of at most 9 minutes, the most valuable first.
#
#     benchmarks/gpu_visit.sh [--device cuda|cpu] [--shape NAME] [--results DIR] [--wheels DIR] [--seconds N] [--only A,B]
#
# Each step has a share of the time, and what the steps before it have left of theirs; it writes its log and its results
# as they come: what ends a step, or the whole call, leaves what was measured before. It ends with a table that says what
# failed and what was skipped.
# --wheels: a folder of wheels to install beside the machine's own packages, for machines without a package registry.
# --only: steps by their names, for a second call; a model is made where one of them needs it.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda shape=qwen3-4b results=gpu-visit wheels= seconds=540 only=
while [ $# -gt 1 ]; do
    case $1 in
        --device) device=$2 ;;
        --shape) shape=$2 ;;
        --results) results=$2 ;;
        --wheels) wheels=$2 ;;
        --seconds) seconds=$2 ;;
        --only) only=$2 ;;
        *) break ;;
    esac
    shift 2
done
if [ $# -gt 0 ]; then
    echo "$1: unknown option, or without a value; see the head of this file" >&2
    exit 2
fi

python=${PYTHON:-python3}
begun=$SECONDS
later=535 # the shares of all steps that are to come
mkdir -p "$results"
results=$(realpath "$results")
: > "$results/steps.tsv"
rm -f "$results/wheels.log"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# A large model is read fast from memory; in a container that may be 64 MB.
in_memory=$(df --output=avail --block-size=G /dev/shm 2> /dev/null | tail -n 1 | tr -dc 0-9)
scratch=$(mktemp -d "$([ "$device" = cuda ] && [ "${in_memory:-0}" -ge 20 ] && echo /dev/shm || echo /tmp)/gpu-visit.XXXXXX")
site=$(mktemp -d) # not in memory, from where containers often let no program code be loaded
trap 'rm -rf "$scratch" "$site"' EXIT

# SIGINT first: the benchmarks end their turns on it, and write what they have.
within=(timeout --signal=INT --kill-after=15)

record() { # name, state, seconds
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" | tee -a "$results/steps.tsv"
}

# Wheels one by one: what one that is missing or does not fit here takes away is seen in the steps that need it.
if [ -n "$wheels" ]; then
    for wheel in "$wheels"/*.whl; do
        "${within[@]}" 30 "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" \
            "$wheel" 2>> "$results/wheels.log" || record "${wheel##*/}" "FAILED, see wheels.log" 0
    done
    PYTHONPATH="$PYTHONPATH:$site"
fi
export PYTHONPATH

wanted() { [[ ",${only:-$1}," = *",$1,"* ]]; }

# A step: its name, its share in seconds, then the command. What it prints on stdout is a result: one line of JSON, last.
step() {
    local name=$1 share=$2 left=$((seconds - SECONDS + begun - 5)) from=$SECONDS limit state
    shift 2
    later=$((later - share))
    wanted "$name" || return
    limit=$((left - later > share ? left - later : share))
    limit=$((limit < left ? limit : left))
    rm -f "$results/$name".{out,log,json} # of an earlier call
    if [ "$limit" -lt 10 ]; then
        record "$name" "skipped: no time left" 0
        return
    fi
    "${within[@]}" "$limit" "$@" > "$results/$name.out" 2> "$results/$name.log"
    case $? in
        0) state=done ;;
        124 | 137) state="stopped after $limit s" ;;
        *) state="FAILED, see $name.log" ;;
    esac
    if tail -n 1 "$results/$name.out" | grep -q '^{'; then
        tail -n 1 "$results/$name.out" > "$results/$name.json"
    fi
    record "$name" "$state" $((SECONDS - from))
}

has() { "$python" -c "import $1" 2> /dev/null; }

needs() { # package, step...: run the step where the package is installed
    if ! wanted "$2" || has "$1"; then
        shift
        step "$@"
    else
        later=$((later - $3))
        rm -f "$results/$2".{out,log,json}
        record "$2" "skipped: $1 is not installed" 0
    fi
}

model=$scratch/model
throughput=("$python" benchmarks/throughput.py --no-save --device "$device" --model "$model" --mix sft)
few=(--docs 200)
[ "$device" = cpu ] && few=(--docs 12)

# (a) Right scores: the card's loop, kernels, out of memory, replicas.
step tests 90 "$python" -m pytest -q -p no:cacheprovider tests/gpu

# (b) Speed beside the alternatives and the measured matrix rate; what may take longest to load comes last.
[[ ,$only, =~ ,(ours|alternatives|profile|pipeline|shared-prefixes), ]] && only=model,$only
step model 30 "$python" benchmarks/shapes.py "$model" "$shape" "$device"
step ours 120 "${throughput[@]}" --only ours,card,ours-compiled --repeats 2 "${few[@]}"
step alternatives 100 "${throughput[@]}" --only ours,crossencoder,annotator,sorted --repeats 1 "${few[@]}"

# (c) Where the time goes, with the fused functions and without.
step profile 45 "$python" benchmarks/profile_batches.py "$model" --device "$device"

# (d) End to end.
needs datatrove pipeline 40 "${throughput[@]}" --only ours-pipeline --repeats 1 --one-process "${few[@]}"

# (e) Savings: what texts begin with alike, and a proxy in cheaper arithmetic.
prompts=(--prompts 5)
[ "$device" = cpu ] && prompts=(--prompts 1)
step shared-prefixes 50 "$python" benchmarks/prefixes.py --no-save --device "$device" --model "$model" --rounds 2 "${prompts[@]}"
cascade=(--shape wide --proxies float8 --rounds 3)
[ "$device" = cpu ] && cascade=(--shape tiny --proxies bfloat16 --rounds 1 --documents 20 --certify 700)
needs datatrove cascade 40 "$python" benchmarks/cascades.py --no-save --device "$device" "${cascade[@]}"

# (f) How many GPUs these cores could feed, which takes none.
needs datatrove simulated-gpus 20 "$python" benchmarks/throughput.py --no-save --simulated-gpus 1 --repeats 1

for name in ${only//,/ }; do
    grep -q "^$name"$'\t' "$results/steps.tsv" || record "$name" "FAILED: there is no such step" 0
done
"$python" benchmarks/visit_table.py "$results"
! grep -q FAILED "$results/steps.tsv"
