# Stands for a test whose environment is not always ready at the first try. Stretto tells a script which try this is.
set -eu
if [ "$STRETTO_ATTEMPT" -lt 2 ]; then
    echo 'the database is still starting up'
    exit 75
fi
echo 'connected at the second try'
