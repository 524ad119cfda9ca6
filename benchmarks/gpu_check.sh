#!/usr/bin/env bash
# One command for whoever has a GPU: environment, build, CUDA tests, compute-sanitizer, benchmarks. Works
# offline in an environment that has what nerfad needs: PYTHON=... names its interpreter, whose folder holds
# cmake; nvcc is on PATH or in CUDA_HOME. Steps that fail do not stop the others. Writes gpu.log and gpu.json
# (what ran, how it ended, and the benchmark's own JSON) to RESULTS. Ends with 0 if all went well, 1 if a step failed, 3 if there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
results=${RESULTS:-benchmarks/results}
limit=${STEP_LIMIT:-1500} # seconds a step may take
mkdir -p "$results"
steps=$(mktemp -d)
trap 'rm -rf "$steps"' EXIT
status=0

# step NAME COMMAND...: runs a command and notes its exit code and seconds.
step() {
  local name=$1 begin=$SECONDS code
  shift
  echo "== $name: $*"
  timeout "$limit" "$@"
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - begin))" >>"$steps/ran"
  [ "$code" -eq 0 ] || status=1
}

skip() {
  echo "== $1: skipped, $2"
  printf '%s\t%s\t%s\n' "$1" skipped "$2" >>"$steps/ran"
}

check() {
  step environment "$python" -m nerfad.env
  if ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    skip "CUDA tests" "no CUDA device that this torch can use"
    status=3
    return
  fi
  step build env NERFAD_CUDA=1 PATH="$(dirname "$python"):$PATH" "$python" setup.py -q build_ext --inplace
  step "CUDA tests" "$python" -m pytest -q -m cuda tests/ops tests/nn tests/models
  local tool
  for tool in memcheck racecheck synccheck initcheck; do
    if command -v compute-sanitizer >/dev/null; then
      step "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$python" -m pytest -q -m cuda tests/ops
    else
      skip "compute-sanitizer $tool" "it is not on PATH"
    fi
  done
  if "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('nerfad.bench.__main__') is None)"; then
    step benchmark "$python" -m nerfad.bench --device cuda --json "$steps/benchmark.json"
  else
    skip benchmark "this nerfad has no benchmark command"
  fi
}

check > >(tee "$results/gpu.log") 2>&1
wait # for tee
"$python" benchmarks/gpu_json.py "$steps/ran" "$steps/benchmark.json" "$results/gpu.json" || status=1
exit "$status"
