podman run --rm --network host notnow:0.1.0 serve smtp/overload --port 2525 --control 8421
