"""Let four threads count for some seconds and end with 1 when a visit was lost: python3 soak.py SECONDS."""

import sys
import threading
import time

from counter import Counter

PAUSE_S = 0.001  # the threads take turns instead of heating the room

counter = Counter()
visits = [0] * 4
end = time.monotonic() + float(sys.argv[1])


def work(number: int) -> None:
    """Visit the page until the time is over."""
    while time.monotonic() < end:
        counter.visit("page")
        visits[number] += 1
        time.sleep(PAUSE_S)


threads = [threading.Thread(target=work, args=(number,)) for number in range(len(visits))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
counted, made = counter.visit("page") - 1, sum(visits)
print(f"{made} visits, {counted} counted")
sys.exit(0 if counted == made else 1)
