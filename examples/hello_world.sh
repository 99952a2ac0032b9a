#!/bin/sh
# One task from beginning to end, with nothing but curl. Start a server first: make run
#
#   examples/hello_world.sh [URL]
set -eu

ratus=${1:-http://127.0.0.1:8000}/v1/topics/hello
# An id of its own, so that this can be run again: ids are unique.
id=hello-$$-$(date +%s)

send() {
    echo
    echo "$1 $2 $3"
    # Shows the server's error, if there is one, and then ends this script.
    curl --silent --show-error --fail-with-body --request "$1" "$ratus$2" --data "$3"
    echo
}

# A producer pushes a task.
send POST "/tasks/$id" '{"payload": "world"}'

# A consumer claims it for ten seconds. What was claimed holds the nonce that proves it.
claimed=$(send POST "/promises/$id" '{"consumer": "hello_world.sh", "timeout": "10s"}')
echo "$claimed"
nonce=$(echo "$claimed" | sed -n 's/.*"nonce": *"\([^"]*\)".*/\1/p')

# It does the work, and commits it.
send PATCH "/tasks/$id" "{\"nonce\": \"$nonce\", \"result\": \"Hello, world!\"}"

# Everybody can see what came of it.
send GET "/tasks/$id" ''
