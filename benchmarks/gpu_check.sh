#!/usr/bin/env bash
# One command for whoever has a GPU: environment, CUDA tests, compute-sanitizer, benchmarks.
# Writes benchmarks/results/gpu.log and benchmarks/results/gpu.json.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
results=benchmarks/results
mkdir -p "$results"
status=0
{
  echo "== environment"
  "$python" -m nerfad.env
  if ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "no CUDA device that this torch can use: nothing was checked"
    exit 3
  fi
  echo "== CUDA tests"
  "$python" -m pytest -m cuda tests/ops tests/nn tests/models || status=1
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
      echo "== compute-sanitizer $tool"
      compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m pytest -q -m cuda tests/ops || status=1
    done
  else
    echo "compute-sanitizer is not on PATH: skipped"
  fi
  echo "== benchmarks"
  "$python" -m pytest benchmarks --benchmark-json="$results/gpu.json" || status=1
  exit $status
} 2>&1 | tee "$results/gpu.log"
exit "${PIPESTATUS[0]}"
