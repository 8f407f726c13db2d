# On each machine, in front of one Redis:
notnow serve smtp/too-many-connections --set cap=50 --port 2525 --shared redis://127.0.0.1:6379/0 --shared-name mx
