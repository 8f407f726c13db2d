import ssl
import sys
import time
from urllib.error import HTTPError
from urllib.request import urlopen

url, ca_file = sys.argv[1:]
for _ in range(5):
    try:
        with urlopen(url, context=ssl.create_default_context(cafile=ca_file)) as answer:
            print(answer.read().decode(), end="")
            break
    except HTTPError as error:
        print(error)
        error.read()
        time.sleep(int(error.headers["retry-after"]))
