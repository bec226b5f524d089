"""Real Python clients against a Larder cache: redis-py, Celery and RQ, as Debian packages them.

LARDER_REDIS is host:port, LARDER_CACHE and LARDER_KEY the login. Prints one line a test and «N passed, N failed».
"""
import os
import subprocess
import sys
import threading
import time

import redis

host, port = os.environ["LARDER_REDIS"].split(":")
cache, key = os.environ["LARDER_CACHE"], os.environ["LARDER_KEY"]
url = f"redis://{cache}:{key}@{host}:{port}/0"
here = os.path.dirname(os.path.abspath(__file__))


def client(**more):
    return redis.Redis.from_url(url, decode_responses=True, **more)


def test_values():
    r = client()
    r.delete("py:a", "py:h", "py:z")
    assert r.set("py:a", 1, ex=60) and r.incr("py:a") == 2 and 0 < r.ttl("py:a") <= 60
    r.hset("py:h", mapping={"x": 1, "y": 2})
    assert r.hgetall("py:h") == {"x": "1", "y": "2"}
    r.zadd("py:z", {"ann": 3, "bob": 1})
    assert r.zrange("py:z", 0, -1, withscores=True) == [("bob", 1.0), ("ann", 3.0)]
    assert sorted(r.scan_iter("py:*")) == ["py:a", "py:h", "py:z"]


def test_optimistic_transaction():
    r = client()
    r.set("py:n", 1)
    other = client()

    def add(pipe):
        n = int(pipe.get("py:n"))
        if n == 1:
            other.set("py:n", 10)
        pipe.multi()
        pipe.set("py:n", n + 1)

    r.transaction(add, "py:n")
    assert r.get("py:n") == "11"


def test_script_and_lock():
    r = client()
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    r.delete("py:s")
    assert add(keys=["py:s"], args=[4]) == 4 and add(keys=["py:s"], args=[4]) == 8
    with r.lock("py:lock", timeout=5):
        assert not client().lock("py:lock", blocking=False).acquire()


def test_messages_and_blocking():
    r, heard = client(), []
    p = r.pubsub()
    p.subscribe("py:c")
    p.psubscribe("py:p*")
    time.sleep(0.1)
    assert client().publish("py:c", "one") == 1 and client().publish("py:px", "two") == 1
    end = time.time() + 5
    while len(heard) < 2 and time.time() < end:
        m = p.get_message(timeout=1)
        if m and m["type"] in ("message", "pmessage"):
            heard.append(m["data"])
    assert heard == ["one", "two"], heard
    threading.Timer(0.1, lambda: client().rpush("py:q", "job")).start()
    assert r.blpop("py:q", timeout=5) == ("py:q", "job")


def test_streams():
    r = client()
    r.delete("py:x")
    r.xgroup_create("py:x", "g", mkstream=True)
    first = r.xadd("py:x", {"k": "v"})
    (_, entries), = r.xreadgroup("g", "me", {"py:x": ">"}, count=10)
    assert entries == [(first, {"k": "v"})] and r.xack("py:x", "g", first) == 1


def test_celery():
    env = dict(os.environ, CELERY_URL=url, PYTHONPATH=here)
    worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "jobs", "worker", "--pool", "solo", "--loglevel", "WARNING", "-Q", "larder-celery"], env=env, cwd=here)
    try:
        code = "import jobs; from celery import group; assert jobs.add.delay(2, 3).get(timeout=30) == 5; assert group(jobs.add.s(i, i) for i in range(10))().get(timeout=30) == [2 * i for i in range(10)]"
        subprocess.run([sys.executable, "-c", code], env=env, cwd=here, check=True, timeout=60)
    finally:
        worker.terminate()
        worker.wait(20)


def test_rq():
    from rq import Queue, SimpleWorker

    r = redis.Redis.from_url(url)
    q = Queue("larder-rq", connection=r)
    job = q.enqueue("jobs.plain", 6, 7)
    sys.path.insert(0, here)
    SimpleWorker([q], connection=r).work(burst=True)
    assert job.result == 42, job.result


def main():
    failed = 0
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    for name, test in tests:
        try:
            test()
            print("ok", name)
        except Exception as e:  # the run goes on, and ends with a failure
            failed += 1
            print("not ok", name, type(e).__name__, e)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
