# Make the pages: sh build.sh FOLDER. Each page of pages/ gets the frame around it.
set -eu
mkdir -p "$1"
for page in pages/*.html; do
    {
        echo '<!doctype html><nav><a href="index.html">Shop</a> <a href="about.html">About</a></nav>'
        cat "$page"
    } > "$1/${page##*/}"
done
