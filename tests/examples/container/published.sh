podman run --rm --env NOTNOW_TOKEN --publish 127.0.0.1:2525:2525 --publish 127.0.0.1:8421:8421 \
  notnow:0.1.0 serve smtp/overload --host 0.0.0.0 --port 2525 --control 0.0.0.0:8421
