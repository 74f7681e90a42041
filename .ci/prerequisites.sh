#!/bin/sh
# Looks for the programs that have to be there before anything else; names every missing one and how to install it.
# usage: prerequisites.sh [--without-train] [--npm] [--python PYTHON]
set -u
root=$(dirname "$0")/..
CXX=${CXX:-c++}
train=yes npm=no python=python3 missing=0
while [ $# -gt 0 ]; do
    case $1 in
        --without-train) train=no ;;
        --npm) npm=yes ;;
        --python) shift; python=${1:-python3} ;;
        *) echo "prerequisites: unknown option \`$1\`" >&2; exit 2 ;;
    esac
    shift
done

lacks() {
    echo "missing: $1" >&2
    missing=1
}
at_least() { [ "$(printf '%s\n%s\n' "$1" "${2:-0}" | sort -V | head -n 1)" = "$1" ]; }
there() { command -v "$1" >/dev/null 2>&1; }

machine="$(uname -s) $(uname -m)"
if [ "$machine" != "Linux x86_64" ]; then
    lacks "Linux on x86-64; this is $machine, and only Linux on x86-64 is supported for now"
fi

wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
if ! there cargo || ! there rustc; then
    lacks "Rust $wanted or later (cargo, rustc); install rustup, then: rustup toolchain install stable"
else
    found=$(rustc --version 2>/dev/null | sed 's/^rustc \([0-9.]*\).*/\1/')
    at_least "$wanted" "$found" || lacks "Rust $wanted or later, found ${found:-none that works}; run: rustup update stable"
fi
if ! there cc; then
    lacks "a linker (cc); run: apt install build-essential"
elif [ $train = yes ] && ! there "${CXX%% *}"; then
    lacks "a C++ compiler ($CXX), to link libtorch; run: apt install build-essential, or leave training out: make setup WITHOUT_TRAIN=1"
fi
if ! there "$python"; then
    lacks "Python 3.8 or later ($python); run: apt install python3 python3-pip"
else
    found=$("$python" --version 2>&1 | sed -n 's/^Python \([0-9.]*\).*/\1/p')
    at_least 3.8 "$found" || lacks "Python 3.8 or later, found ${found:-none that works}; run: apt install python3 python3-pip"
fi
if [ $npm = yes ] && ! there npm; then
    lacks "npm, for the demo's emoji drawings; run: apt install npm"
fi
[ $missing = 0 ] || exit 2
