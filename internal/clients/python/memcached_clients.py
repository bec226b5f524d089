"""Real memcached clients of Python against a Larder's endpoint: pymemcache and pylibmc, text and binary, as Debian packages them.

LARDER_MEMCACHE is host:port of an endpoint that needs no login, LARDER_MEMCACHE_LOGIN of the port that does; LARDER_CACHE and
LARDER_KEY are the login. Prints one line a test and «N passed, N failed».
"""
import os
import sys

import pylibmc
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient
from pymemcache import serde

host, port = os.environ["LARDER_MEMCACHE"].split(":")
login = os.environ["LARDER_MEMCACHE_LOGIN"]
cache, key = os.environ["LARDER_CACHE"], os.environ["LARDER_KEY"]


def test_pymemcache():
    c = Client((host, int(port)), default_noreply=False)
    c.flush_all()
    assert c.set("a", "1", expire=60) and c.get("a") == b"1"
    assert c.add("a", "2") is False and c.add("b", "2") is True
    assert c.replace("nothing", "x") is False
    assert c.append("b", "3") and c.prepend("b", "1") and c.get("b") == b"123"
    assert c.incr("a", 41) == 42 and c.decr("a", 2) == 40 and c.incr("nothing", 1) is None
    value, token = c.gets("b")
    assert c.cas("b", "new", token) is True and c.cas("b", "newer", token) is False and c.cas("nothing", "x", token) is None
    assert c.touch("b", 60) and not c.touch("nothing", 60) and c.get("b") == b"new"
    assert c.set_many({"x": "1", "y": "2"}) == [] and c.get_many(["x", "y", "z"]) == {"x": b"1", "y": b"2"}
    assert c.delete("x") and not c.delete("x")
    assert c.delete_many(["y"]) and c.get("y") is None
    assert c.stats()[b"curr_items"] >= 2 and c.version()
    assert c.set("big", b"v" * 900_000) and len(c.get("big")) == 900_000
    c.set("n", "1", noreply=True)
    assert c.get("n") == b"1"
    c.quit()


def test_pymemcache_serializes():
    c = HashClient([(host, int(port))], serde=serde.pickle_serde, use_pooling=True)
    for value in ({"a": [1, 2, None]}, 12, "text", b"bytes"):
        assert c.set("object", value) and c.get("object") == value, value


def libmemcached(**more):
    return pylibmc.Client([f"{host}:{port}"], **more)


def both(test):
    for binary in (False, True):
        test(libmemcached(binary=binary, behaviors={"cas": True}), binary)


def test_pylibmc():
    def run(c, binary):
        c.flush_all()
        assert c.set("a", "text", time=60) and c.get("a") == "text"
        assert c.add("a", 1) is False and c.set("n", 5) and c.incr("n", 3) == 8 and c.decr("n") == 7
        assert c.set_multi({"x": 1, "y": [2]}) == [] and c.get_multi(["x", "y", "z"]) == {"x": 1, "y": [2]}
        value, token = c.gets("x")
        assert c.cas("x", 2, token) is True and c.cas("x", 3, token) is False
        assert c.append("a", "!") and c.prepend("a", ">") and c.get("a") == ">text!"
        assert c.touch("a", 100) and c.delete("a") and not c.delete("a")
        assert c.set("long", "v" * 500_000) and len(c.get("long")) == 500_000
        assert c.get_stats()[0][1]["curr_items"]

    both(run)


def test_pylibmc_logs_in_with_sasl():
    c = pylibmc.Client([login], binary=True, username=cache, password=key)
    assert c.set("sasl", "in") and c.get("sasl") == "in"
    try:
        pylibmc.Client([login], binary=True, username=cache, password="wrong").get("sasl")
    except pylibmc.Error:
        return
    raise AssertionError("a wrong password opens the cache")


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
