#!/bin/sh
# fuzz.sh TIME TAGS: runs each fuzz test of the module for TIME.
set -eu
cd "$(dirname "$0")/.."
grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort |
	while IFS=: read -r file function; do
		name=${function#func }
		echo "$(dirname "$file") $name"
		go test -tags "$2" -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$(dirname "$file")" </dev/null
	done
