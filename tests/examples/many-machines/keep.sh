notnow serve quota.toml --shared "redis://127.0.0.1:6379/0?name=ci-$RUN_ID"
