# Beside the tests of a job: the control API, and no server yet.
notnow serve --control 0 --json > notnow.log &
serve=$!
until [ -s notnow.log ]; do sleep 0.1; done
api=$(head -n 1 notnow.log | jq -r .url)
json='content-type: application/json'

# In a test: a server of its own, whose outage lasts an hour. Its clock stands still until the test advances it.
server=$(curl -sS "$api/v1/servers" -H "$json" -d '{"scenario": "smtp/overload", "knobs": {"outage": "1h"}, "speed": 0, "ttl": "5m"}')
name=$(echo "$server" | jq -r .name)
port=$(echo "$server" | jq -r .port)

# The client under test: here a shell function that sends one mail, and says whether it could.
send() { curl --silent "smtp://127.0.0.1:$port" --mail-from me@example.org --mail-rcpt you@example.net --upload-file mail.txt; }
printf 'Subject: hello\nMessage-ID: <1@example.org>\n\nhello\n' > mail.txt

send || echo "not now: $(curl -sS "$api/v1/servers/$name/journal?moment=connect" | jq -r '.entries[0].reply')"
curl -sS "$api/v1/clock/advance" -H "$json" -d "{\"by\": \"1h\", \"servers\": [\"$name\"]}" > advanced.json
send; status=$?

# The verdict: in one word, and for the CI server. A server that is no more needed is deleted, or ends after its ttl.
curl -sS "$api/v1/verdict?server=$name&exit=$status&count=1" | jq -r '.result, .outcome'
curl -sS "$api/v1/verdict?server=$name&format=junit" > notnow.xml
curl -sS -X DELETE -H "$json" "$api/v1/servers/$name"

# At the end of the job.
kill $serve
wait $serve
