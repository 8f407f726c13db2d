# The fake mail server, and the control API beside it.
notnow serve mail=smtp/healthy --speed 60 --control 0 --json > notnow.log &
serve=$!
until [ "$(wc -l < notnow.log)" -ge 2 ]; do kill -0 $serve || exit 1; sleep 0.1; done
api=$(jq -r 'select(.event == "control").url' notnow.log)
port=$(jq -r 'select(.event == "listening").port' notnow.log)
json='content-type: application/json'

steady() { # an order is confirmed; no mail is lost or sent twice; the shop behaves; a mail takes three tries at most
  python shop.py "$port" "$1" &&
    curl -sS "$api/v1/verdict?server=mail&exit=0&journals=false" > verdict.json &&
    jq -r '"\(.result), \(.outcome), \(.storm.amplification) tries for each mail"' verdict.json &&
    jq -e '.result == "delivered" and .outcome == "well behaved" and .storm.amplification <= 3' verdict.json > steady.json
}

steady 1 || exit 1

# The method: for an hour each message is answered 421 at its end; an order comes in meanwhile; the hour passes.
full='{"scenario": "smtp/at-stage", "knobs": {"stage": "message", "outage": "1h"}}'
curl -sS -X PUT "$api/v1/servers/mail/scenario" -H "$json" -d "$full" > played.json
python shop.py "$port" 2 &
shop=$!
curl -sS "$api/v1/servers/mail/wait?message=2&timeout=20s" > tried.json
curl -sS "$api/v1/clock/advance" -H "$json" -d '{"by": "1h", "servers": ["mail"]}' > advanced.json
wait $shop

steady 1
status=$?

# The rollback.
curl -sS -X PUT "$api/v1/servers/mail/scenario" -H "$json" -d '{"scenario": "smtp/healthy"}' > healthy.json
kill $serve
wait $serve
exit $status
