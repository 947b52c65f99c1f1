#!/usr/bin/env bash
# Runs tests with versions of Python and MindSpore, each pair in a fresh environment, and prints a line about each:
#
#     tests/compatibility.sh python3.10=2.8.0 python3.11=2.7.0 ...
#     TESTS="tests/test_step.py -k release" tests/compatibility.sh python3.11=2.10.0
#
# An interpreter is a command or a path. TESTS are arguments of pytest, by default those below: what steps and networks
# compute, whole runs, and what looks into MindSpore's own modules. Environments are made in a temporary folder (3 GB each) and removed.
set -euo pipefail
cd "$(dirname "$0")/.."
QUICK="tests/test_{cli,files,methods,step,networks,convolution,optimizers,train,operators,convert,main,graphs,plugins,devices}.py"
[ $# -gt 0 ] || { sed -n 's/^# \{0,1\}//p' "$0" | sed 1d >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
for pair in "$@"; do
    python=${pair%=*} version=${pair##*=} log="$folder/log"
    rm -rf "$folder/venv"
    : > "$log"
    # The same requirements, but for MindSpore's version; numpy and all others are what pip finds for these two.
    sed "s|^-r |-r $PWD/|; /^mindspore/d" requirements.txt > "$folder/requirements.txt"
    if "$python" -m venv "$folder/venv" >> "$log" 2>&1 \
        && "$folder/venv/bin/pip" install -q -r "$folder/requirements.txt" "mindspore==$version" > "$log" 2>&1; then
        # shellcheck disable=SC2086
        eval "\"$folder/venv/bin/python\" -m pytest -q -p no:cacheprovider ${TESTS:-$QUICK}" > "$log" 2>&1 || failed=1
        grep -E '^(FAILED|ERROR|E  )' "$log" || true
        result=$(tail -n 1 "$log")
    else
        failed=1 result="not installed: $(grep -m 1 -i error "$log" || tail -n 1 "$log" || true)"
    fi
    echo "$(date +%F), $("$python" -V 2>/dev/null || echo "$python"), MindSpore $version: $result"
done
exit "$failed"
