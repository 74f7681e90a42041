#!/bin/sh
# The README's picture: the top of a report, 1280 × 1180, in headless Chromium.
#   tests/browser/picture.sh reports/runs/demo/report.html reports/demo.png
set -eu
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { echo "no Chromium found; install one or set CHROMIUM" >&2; exit 77; }
page=$(realpath "$1")
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --blink-settings=preferredColorScheme=1 --window-size=1280,1180 --virtual-time-budget=5000 \
    --screenshot="$(realpath -m "$2")" "file://$page"
