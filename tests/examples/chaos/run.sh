# The fake mail server, and the control API beside it.
notnow serve mail=smtp/healthy --speed 60 --control 0 --json > notnow.log &
serve=$!
until [ "$(wc -l < notnow.log)" -ge 2 ]; do kill -0 $serve || exit 1; sleep 0.1; done
export NOTNOW_CONTROL=$(jq -r 'select(.event == "control").url' notnow.log)
export MAIL_PORT=$(jq -r 'select(.event == "listening").port' notnow.log)

chaos run experiment.json
status=$?

kill $serve
wait $serve
exit $status
