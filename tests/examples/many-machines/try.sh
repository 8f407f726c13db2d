redis-server --port 6379 --save "" &
notnow serve smtp/too-many-connections --set cap=1 --port=2525 --shared redis://127.0.0.1:6379/0 --shared-name try &
notnow serve smtp/too-many-connections --set cap=1 --port=2526 --shared redis://127.0.0.1:6379/0 --shared-name try &
nc 127.0.0.1 2525  # 220: leave it open, and in another terminal:
nc 127.0.0.1 2526  # 421: the only slot is taken, at the other replica
