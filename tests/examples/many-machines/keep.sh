notnow serve quota.toml --lease 10m --shared "redis://127.0.0.1:6379/0?name=ci-$RUN_ID"
