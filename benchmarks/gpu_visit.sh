#!/usr/bin/env bash
# All that is to be measured on a GPU, in one call of at most 9 minutes, the most valuable first.
#
#     benchmarks/gpu_visit.sh [--device cuda|cpu] [--shape NAME] [--results DIR] [--wheels DIR] [--seconds N]
#
# Each step has a share of the time, and what the steps before it have left of theirs; it writes its log and its results
# as they come: what ends a step, or the whole call, leaves what was measured before. It ends with a table that says what
# failed and what was skipped.
# --wheels: a folder of wheels to install beside the machine's own packages, for machines without a package registry.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda shape=qwen3-4b results=gpu-visit wheels= seconds=540
while [ $# -gt 1 ]; do
    case $1 in
        --device) device=$2 ;;
        --shape) shape=$2 ;;
        --results) results=$2 ;;
        --wheels) wheels=$2 ;;
        --seconds) seconds=$2 ;;
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
trap 'rm -rf "$scratch"' EXIT

# SIGINT first: the benchmarks end their turns on it, and write what they have.
within=(timeout --signal=INT --kill-after=15)

record() { # name, state, seconds
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" | tee -a "$results/steps.tsv"
}

# Wheels one by one: what one that is missing or does not fit here takes away is seen in the steps that need it.
if [ -n "$wheels" ]; then
    for wheel in "$wheels"/*.whl; do
        "${within[@]}" 30 "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" \
            "$wheel" 2>> "$results/wheels.log" || record "${wheel##*/}" "FAILED, see wheels.log" 0
    done
    PYTHONPATH="$PYTHONPATH:$scratch/site"
fi
export PYTHONPATH

# A step: its name, its share in seconds, then the command. What it prints on stdout is a result: one line of JSON, last.
step() {
    local name=$1 share=$2 left=$((seconds - SECONDS + begun - 5)) from=$SECONDS limit state
    shift 2
    later=$((later - share))
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
    if has "$1"; then
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
step tests 100 "$python" -m pytest -q -p no:cacheprovider tests/gpu

# (b) Speed beside the alternatives and the measured matrix rate.
step model 40 "$python" benchmarks/shapes.py "$model" "$shape" "$device"
step ours 110 "${throughput[@]}" --only ours,ours-compiled,card --repeats 2 "${few[@]}"
step alternatives 75 "${throughput[@]}" --only ours,annotator,sorted,crossencoder --repeats 1 "${few[@]}"

# (c) Where the time goes, with the fused functions and without.
step profile 40 "$python" benchmarks/profile_batches.py "$model" --device "$device"

# (d) End to end, and how many GPUs these cores could feed.
needs datatrove pipeline 40 "${throughput[@]}" --only ours-pipeline --repeats 1 "${few[@]}"
needs datatrove simulated-gpus 40 "$python" benchmarks/throughput.py --no-save --simulated-gpus 1 --repeats 1

# (e) Savings: what texts begin with alike, and a proxy in cheaper arithmetic.
prompts=(--prompts 20)
[ "$device" = cpu ] && prompts=(--prompts 1)
step shared-prefixes 50 "$python" benchmarks/prefixes.py --no-save --device "$device" --model "$model" --rounds 2 "${prompts[@]}"
cascade=(--shape wide --proxies float8 --rounds 3)
[ "$device" = cpu ] && cascade=(--shape tiny --proxies bfloat16 --rounds 1 --documents 20 --certify 700)
needs datatrove cascade 40 "$python" benchmarks/cascades.py --no-save --device "$device" "${cascade[@]}"

"$python" benchmarks/visit_table.py "$results"
! grep -q FAILED "$results/steps.tsv"
