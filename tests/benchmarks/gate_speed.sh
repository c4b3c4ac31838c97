#!/usr/bin/env bash
# Gate benchrun's own speed suite against the merge base with a branch (default: origin/main), with benchrun's own gate.
# The Python that runs it has benchrun and all that its tests need; each side lays its own benchrun over that one.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
branch=${1:-origin/main}
python=$(command -v "${PYTHON:-python}")
suite=tests/benchmarks/test_speed.py
base=$(git merge-base "$branch" HEAD)
new=$(git rev-parse HEAD)
if [ "$base" = "$new" ]; then
  echo "HEAD is part of $branch: there is nothing to compare"
  exit 0
fi
if ! git cat-file -e "$base:$suite" 2>/dev/null; then
  echo "the merge base $base has no speed suite yet: there is nothing to compare"
  exit 0
fi
work=$PWD/.speed
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work/base" "$work/new"' EXIT
for side in base new; do
  mkdir "$work/$side"
  git archive "${!side}" | tar -x -C "$work/$side"
  "$python" -m pip install --quiet --no-deps --target "$work/$side/site" "$work/$side"
done
run() { # the command of a side
  echo "env -C $work/$1 PYTHONPATH=$work/$1/site BENCHRUN_SPEED_DATA=$work $python -m pytest -q -p no:cacheprovider $suite" \
    "--benchmark-enable --benchmark-only --benchmark-disable-gc --benchmark-max-time 0.5 --benchmark-json {out}"
}
"$python" -c 'import sys; from benchrun.runner.cli import main; main(sys.argv[1:])' gate \
  --base-cmd "$(run base)" --new-cmd "$(run new)" --cmd-format pytest-benchmark --threads 1 --max-minutes 25 \
  --db "$work/gate.db" --json > "$work/gate.json"
