#!/usr/bin/env bash
# Builds libconvcore and the C tests under sanitizers, in the folder given, and runs them: everything
# under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer, the thread pool under ThreadSanitizer.
#
#     tests/c/run_sanitized.sh FOLDER
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
source_folder="$(cd "$(dirname "$0")/../.." && pwd)"
mkdir -p "$1"
build="$(cd "$1" && pwd)"
compiler="${CC:-cc}"

for tool in cmake "$compiler"; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not installed" >&2; exit 1; }
done
for sanitizer in address undefined thread; do
    if ! echo 'int main(void) { return 0; }' |
        "$compiler" -x c - "-fsanitize=$sanitizer" -o "$build/probe" 2>"$build/probe.log" || ! "$build/probe"; then
        cat "$build/probe.log" >&2
        echo "$0: $compiler cannot build or run with -fsanitize=$sanitizer;" \
            "install its sanitizer runtimes (Debian: libgcc-12-dev, Fedora: libasan libubsan libtsan)" >&2
        exit 1
    fi
done

# build_tests NAME SANITIZE TARGET...
build_tests() {
    local folder="$build/$1" sanitize="$2"
    shift 2
    cmake -S "$source_folder" -B "$folder" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=None \
        -DCONVCORE_TESTS=ON -DCONVCORE_SANITIZE="$sanitize" >"$folder.log" || { cat "$folder.log" >&2; exit 1; }
    cmake --build "$folder" --parallel "$(nproc)" --target "$@" >"$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; exit 1; }
}

# An inherited setting must not hide what the tests are there to find.
unset CONVCORE_ISA CONVCORE_NUM_THREADS OMP_NUM_THREADS
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

build_tests address ON steps_check contract_check threads_check elementwise_check
"$build/address/contract_check"
"$build/address/threads_check"
"$build/address/steps_check" 25
"$build/address/steps_check" 40 2 0 # convolutions once more: they have the most cases
"$build/address/elementwise_check" check 262139 >"$build/elementwise.log" ||
    { cat "$build/elementwise.log" >&2; exit 1; }
tail -n 1 "$build/elementwise.log"

build_tests thread thread threads_check
"$build/thread/threads_check" no-fork
