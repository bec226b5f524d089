"""What the queues' workers do."""
import os

from celery import Celery

app = Celery("jobs", broker=os.environ.get("CELERY_URL"), backend=os.environ.get("CELERY_URL"))
app.conf.task_default_queue = "larder-celery"


@app.task
def add(a, b):
    return a + b


def plain(a, b):
    return a * b
