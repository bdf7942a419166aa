# Print each line of FILE that is longer than 100 characters or says FIXME, and end with 1 when there is one: sh lint.sh FILE.
set -eu
if awk 'length > 100 || /FIXME/ { print FILENAME ":" FNR ": " $0; found = 1 } END { exit !found }' "$1"; then
    exit 1
fi
