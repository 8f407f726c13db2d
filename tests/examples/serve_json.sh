# Start a fake; its first line says where it listens.
notnow serve smtp/overload --json > journal.jsonl &
server=$!
until [ -s journal.jsonl ]; do sleep 0.1; done
port=$(sed -n '1s/.*"port": \([0-9]*\).*/\1/p' journal.jsonl)

# Run the client under test. Here it is curl, which does not come back.
curl --silent "smtp://127.0.0.1:$port" --mail-from me@example.org --mail-rcpt you@example.net --upload-file /dev/null
echo "the client ended with $?"

# Stop the fake, and look at what the client was told.
kill -INT $server
wait $server
grep '"moment": "connect"' journal.jsonl | sed 's/.*"reply": "\([^"]*\)".*/it was told \1/'
