package engine

import (
	"math/bits"

	"github.com/larder-cache/larder/internal/fault"
)

var throttleCommands = []Command{
	{Name: "CL.THROTTLE", Arity: -5, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment", run: throttle,
		Usage: "key max-burst requests period [quantity]", Summary: "Asks a rate limit to let something pass: redis-cell's command", Complexity: "O(1)", Since: "1.0.0"},
}

// A limiter is a rate limit by the generic cell rate algorithm: each of what passes moves a point in time on by interval,
// and the point may lie tolerance ahead of the clock. The point is all that is stored: a string of nanoseconds since 1970,
// which expires when the clock has come up with it.
type limiter struct {
	limit               int64 // how much may pass at once
	interval, tolerance int64 // nanoseconds
	increment           int64 // what is asked for, in nanoseconds; more than tolerance where that can never pass
}

// maxTolerance is the most by which the point lies ahead, so that nothing overflows before 2262: a hundred years.
const maxTolerance = 100 * 365 * 24 * 3600 * 1_000_000_000

func (c *call) limiter() (l limiter, err error) {
	values := [4]int64{3: 1}
	if len(c.args) > 6 {
		return l, errArity(c)
	}
	for i, arg := range c.args[2:] {
		var ok bool
		if values[i], ok = parseInt(arg); !ok {
			return l, errNotInteger
		}
	}
	burst, requests, period, quantity := values[0], values[1], values[2], values[3]
	for _, v := range [...]struct {
		name  string
		value int64
		least int64
	}{{"max-burst", burst, 0}, {"requests", requests, 1}, {"period", period, 1}, {"quantity", quantity, 0}} {
		if v.value < v.least {
			return l, fault.About(fault.OutOfRange, c.cmd.Name, v.name, "%s must be at least %d", v.name, v.least)
		}
	}
	ns, ok := product(period, 1_000_000_000)
	l.interval = ns / requests
	if ok && burst < 1<<62 {
		l.limit = burst + 1
		l.tolerance, ok = product(l.interval, l.limit)
	}
	if !ok || l.limit == 0 || l.interval == 0 {
		return l, fault.About(fault.OutOfRange, c.cmd.Name, "period", "so many requests in that time are beyond a rate limit's bounds: at least a nanosecond for each, and at most 100 years for a burst")
	}
	if l.increment, ok = product(l.interval, quantity); !ok {
		l.increment = l.tolerance + 1
	}
	return l, nil
}

// product multiplies numbers that are not negative, up to maxTolerance.
func product(a, b int64) (int64, bool) {
	high, low := bits.Mul64(uint64(a), uint64(b))
	return int64(low), high == 0 && low <= maxTolerance
}

func throttle(c *call) error {
	key := c.args[1]
	l, err := c.limiter()
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	now := c.now * 1_000_000
	point := now
	if s != nil {
		at, ok := parseInt(s.data)
		if !ok || at < 0 || at > now+2*maxTolerance {
			return fault.New(fault.WrongType, c.cmd.Name, "the key holds a string that is no rate limit")
		}
		point = max(at, now)
	}
	retry := int64(-1)
	limited := point+l.increment-l.tolerance > now
	switch {
	case !limited && l.increment > 0:
		point += l.increment
		it = c.modify(key, s, it, c.decimal(point))
		if err := c.expire(it, (point+999_999)/1_000_000); err != nil {
			return err
		}
	case limited && l.increment <= l.tolerance:
		retry = seconds(point + l.increment - l.tolerance - now)
	}
	left := max(l.tolerance-(point-now), 0) / l.interval
	c.out.Array(5)
	c.flag(limited)
	for _, n := range [...]int64{l.limit, left, retry, seconds(point - now)} {
		c.out.Int(n)
	}
	return nil
}

// seconds rounds up, or who waits so long would come too early.
func seconds(ns int64) int64 { return (ns + 999_999_999) / 1_000_000_000 }
