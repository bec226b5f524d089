// Package golang runs real Go clients against a Larder cache: go-redis and rueidis, the latter with its client-side cache.
package golang

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

func env(t *testing.T, name string) string {
	v := os.Getenv(name)
	if v == "" {
		t.Skip(name + " is not set: see make clients")
	}
	return v
}

func TestGoRedis(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		ctx := context.Background()
		c := redis.NewClient(&redis.Options{Addr: env(t, "LARDER_REDIS"), Username: env(t, "LARDER_CACHE"), Password: env(t, "LARDER_KEY"), Protocol: protocol})
		defer c.Close()
		if err := c.Del(ctx, "go:a", "go:z", "go:l").Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Set(ctx, "go:a", "1", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Incr(ctx, "go:a").Result(); err != nil || n != 2 {
			t.Errorf("INCR: %d %v", n, err)
		}
		c.ZAdd(ctx, "go:z", redis.Z{Score: 2, Member: "b"}, redis.Z{Score: 1, Member: "a"})
		if z, err := c.ZRangeWithScores(ctx, "go:z", 0, -1).Result(); err != nil || len(z) != 2 || z[0].Member != "a" || z[1].Score != 2 {
			t.Errorf("ZRANGE: %v %v", z, err)
		}
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			c.Set(ctx, "go:a", "x", 0)
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "go:a", "y", 0); return nil })
			return err
		}, "go:a")
		if !errors.Is(err, redis.TxFailedErr) {
			t.Errorf("a transaction whose key was changed: %v", err)
		}
		sub := c.Subscribe(ctx, "go:c")
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		c.Publish(ctx, "go:c", "hello")
		if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "hello" {
			t.Errorf("a message: %v %v", m, err)
		}
		sub.Close()
		go func() {
			time.Sleep(50 * time.Millisecond)
			c.RPush(ctx, "go:l", "job")
		}()
		if got, err := c.BLPop(ctx, 5*time.Second, "go:l").Result(); err != nil || strings.Join(got, " ") != "go:l job" {
			t.Errorf("BLPOP: %v %v", got, err)
		}
		script := redis.NewScript(`return redis.call("GET", KEYS[1])`)
		if got, err := script.Run(ctx, c, []string{"go:a"}).Text(); err != nil || got != "x" {
			t.Errorf("a script: %q %v", got, err)
		}
	}
}

func TestGoRedisCluster(t *testing.T) {
	ctx := context.Background()
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{env(t, "LARDER_REDIS")}, Username: env(t, "LARDER_CACHE"), Password: env(t, "LARDER_KEY")})
	defer c.Close()
	if err := c.Set(ctx, "go:cluster", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "go:cluster").Result(); err != nil || v != "v" {
		t.Errorf("%q %v", v, err)
	}
}

// What rueidis caches on its side it drops when somebody else changes it.
func TestRueidisCache(t *testing.T) {
	ctx := context.Background()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{env(t, "LARDER_REDIS")}, Username: env(t, "LARDER_CACHE"), Password: env(t, "LARDER_KEY")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	set := func(v string) {
		t.Helper()
		if err := c.Do(ctx, c.B().Set().Key("ru:a").Value(v).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	get := func() (string, bool) {
		t.Helper()
		r := c.DoCache(ctx, c.B().Get().Key("ru:a").Cache(), time.Minute)
		v, err := r.ToString()
		if err != nil {
			t.Fatal(err)
		}
		return v, r.IsCacheHit()
	}
	set("1")
	if v, hit := get(); v != "1" || hit {
		t.Errorf("first: %q, from the cache %v", v, hit)
	}
	if v, hit := get(); v != "1" || !hit {
		t.Errorf("again: %q, from the cache %v", v, hit)
	}
	set("2")
	for tries := 0; ; tries++ {
		if v, _ := get(); v == "2" {
			break
		} else if tries == 100 {
			t.Fatalf("still %q", v)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
