# End with 1 when a page of FOLDER links to one that is not there: sh check_links.sh FOLDER.
set -eu
broken=0
for page in "$1"/*.html; do
    for link in $(grep -o 'href="[^"]*"' "$page" | cut -d '"' -f 2); do
        if [ ! -e "$1/$link" ]; then
            echo "$page: $link is missing"
            broken=1
        fi
    done
done
exit "$broken"
