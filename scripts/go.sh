#!/bin/sh
# go.sh: fails with the remedy where Go is absent or older than go.mod asks
# for. Go's own message for that is hard to understand, and before 1.21 wrong.
set -eu
cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^go 1\.\([0-9]*\).*/\1/p' go.mod)
remedy="Install Go 1.$wanted or later from https://go.dev/dl/ and put its bin folder first in PATH."

if ! command -v go >/dev/null; then
	echo "Go is not installed. $remedy" >&2
	exit 1
fi
version=$(go version 2>&1) || true
found=$(printf '%s\n' "$version" | sed -n 's/^go version .*go1\.\([0-9]*\).*/\1/p')
if [ -z "$found" ] || [ "$found" -lt "$wanted" ]; then
	echo "Go is too old: \"$version\" at $(command -v go). $remedy" >&2
	exit 1
fi
