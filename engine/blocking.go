package engine

import (
	"math"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// Commands that wait until they find something. Here they ask once: where nothing is found they park, and whoever runs
// the partition asks again when one of the keys is touched, in the order in which they came. See Parked.

var blockingCommands = []Command{
	{Name: "BLPOP", Arity: -3, Keys: popKeys, Flags: Writes | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: popRights("cache:ListRead"), run: func(c *call) error { return bpop(c, head) },
		Usage: "key [key ...] timeout", Summary: "Removes and returns the first element of the first list that has any, or waits for one", Complexity: "O(N) in the number of keys", Since: "2.0.0"},
	{Name: "BRPOP", Arity: -3, Keys: popKeys, Flags: Writes | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: popRights("cache:ListRead"), run: func(c *call) error { return bpop(c, tail) },
		Usage: "key [key ...] timeout", Summary: "Removes and returns the last element of the first list that has any, or waits for one", Complexity: "O(N) in the number of keys", Since: "2.0.0"},
	{Name: "BLMOVE", Arity: 6, Keys: twoKeys, Flags: Writes | Grows | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, run: blmove,
		Usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout", Summary: "Moves an element from one end of a list to one of another, or waits for one", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "BLMOVEM", Arity: -6, Keys: twoKeys, Flags: Writes | Grows | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, Facts: lmovemFacts(6), run: blmovem,
		Usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout [<COUNT | EXACTLY> count <OBO | BULK>]", Summary: "Moves elements from one end of a list to one of another, or waits for one, or for as many as it is to move", Complexity: "O(N) for N elements", Since: "8.10.0"},
	{Name: "BRPOPLPUSH", Arity: 4, Keys: twoKeys, Flags: Writes | Grows | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight,
		run:   func(c *call) error { return bmove(c, c.args[3], tail, head) },
		Usage: "source destination timeout", Summary: "Moves the last element of a list before the first of another, or waits for one", Complexity: "O(1)", Since: "2.2.0"},
	{Name: "BLMPOP", Arity: -5, Keys: Keys{Count: 2}, Flags: Writes | Blocks, Group: GroupList, Action: "cache:ListWrite", Also: timedPopRights("cache:ListRead"), run: blmpop,
		Usage: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]", Summary: "Removes and returns the outermost elements of the first list that has any, or waits for some", Complexity: "O(K + M) for K keys and M elements", Since: "7.0.0"},
	{Name: "BZPOPMIN", Arity: -3, Keys: popKeys, Flags: Writes | Fast | Blocks, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: popRights("cache:SortedSetRead"), run: func(c *call) error { return bzpop(c, false) },
		Usage: "key [key ...] timeout", Summary: "Removes and returns the member with the lowest score of the first set that has any, or waits for one", Complexity: "O(log N)", Since: "5.0.0"},
	{Name: "BZPOPMAX", Arity: -3, Keys: popKeys, Flags: Writes | Fast | Blocks, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: popRights("cache:SortedSetRead"), run: func(c *call) error { return bzpop(c, true) },
		Usage: "key [key ...] timeout", Summary: "Removes and returns the member with the highest score of the first set that has any, or waits for one", Complexity: "O(log N)", Since: "5.0.0"},
	{Name: "BZMPOP", Arity: -5, Keys: Keys{Count: 2}, Flags: Writes | Blocks, Group: GroupSortedSet, Action: "cache:SortedSetWrite", Also: timedPopRights("cache:SortedSetRead"), run: bzmpop,
		Usage: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]", Summary: "Removes and returns the outermost members of the first set that has any, or waits for some", Complexity: "O(K + log N + M) for K keys and M members", Since: "7.0.0"},
}

var popKeys = Keys{First: 1, Last: -2, Step: 1}

// popRights: the answer of a pop tells what a key held.
func popRights(action string) rights {
	return func(dst []Right, args [][]byte) []Right {
		for _, key := range args[1 : len(args)-1] {
			dst = append(dst, Right{Action: action, On: OnKey, Name: key})
		}
		return dst
	}
}

func timedPopRights(action string) rights {
	return func(dst []Right, args [][]byte) []Right {
		for _, key := range (Keys{Count: 2}).counted(args) {
			dst = append(dst, Right{Action: action, On: OnKey, Name: key})
		}
		return dst
	}
}

// seconds reads a timeout in seconds, with a fraction; in milliseconds it is what comes out, rounded up.
func (c *call) seconds(arg []byte) (ms int64, err error) {
	f, ok := parseFloat(arg)
	if !ok && len(arg) > 2 && arg[0] == '0' && arg[1]|' ' == 'x' { // C reads hexadecimal numbers
		var err error
		f, err = strconv.ParseFloat(string(arg)+"p0", 64)
		ok = err == nil
	}
	switch {
	case !ok || math.IsNaN(f):
		return 0, fault.About(fault.InvalidArgument, c.cmd.Name, "timeout", "timeout is not a float or out of range")
	case f < 0:
		return 0, fault.About(fault.OutOfRange, c.cmd.Name, "timeout", "timeout is negative")
	case math.Ceil(f*1000) > float64(math.MaxInt64-c.now-1024):
		return 0, fault.About(fault.OutOfRange, c.cmd.Name, "timeout", "timeout is out of range")
	}
	return int64(math.Ceil(f * 1000)), nil
}

func bpop(c *call, at end) error {
	last := len(c.args) - 1
	wait, err := c.seconds(c.args[last])
	if err != nil {
		return err
	}
	keys := c.args[1:last]
	for _, key := range keys {
		l, it, err := wanted[*listValue](c, key)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		c.out.Array(2)
		c.out.Bulk(key)
		c.out.Bulk(l.peek(at))
		c.dropOuter(it, at, 1)
		return nil
	}
	return c.park(Parked{Keys: keys, Kind: "list", For: wait}, c.out.NullArray)
}

func blmove(c *call) error {
	from, err := parseEnd(c.args[3])
	if err != nil {
		return err
	}
	to, err := parseEnd(c.args[4])
	if err != nil {
		return err
	}
	return bmove(c, c.args[5], from, to)
}

func bmove(c *call, timeout []byte, from, to end) error {
	wait, err := c.seconds(timeout)
	if err != nil {
		return err
	}
	l, _, err := wanted[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if l == nil {
		return c.park(Parked{Keys: c.args[1:2], Kind: "list", For: wait}, c.out.Null)
	}
	return move(c, from, to)
}

func blmovem(c *call) error {
	o, err := parseMoves(c.args, 6)
	if err != nil {
		return err
	}
	wait, err := c.seconds(c.args[5])
	if err != nil {
		return err
	}
	l, it, err := wanted[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if o.count > int64(l.len()) && (o.exactly || l == nil) {
		return c.park(Parked{Keys: c.args[1:2], Kind: "list", For: wait}, c.out.NullArray)
	}
	return c.moveElements(l, it, o)
}

// timedPops reads what BLMPOP and BZMPOP have in common.
func (c *call) timedPops(first, last string) (wait int64, keys [][]byte, fromLast bool, count int64, err error) {
	if wait, err = c.seconds(c.args[1]); err != nil {
		return wait, nil, false, 0, err
	}
	keys, fromLast, count, err = c.parsePops(c.args[1:], first, last)
	return wait, keys, fromLast, count, err
}

func blmpop(c *call) error {
	wait, keys, right, count, err := c.timedPops("LEFT", "RIGHT")
	if err != nil {
		return err
	}
	done, err := c.popFirst(keys, end(right), count)
	if done || err != nil {
		return err
	}
	return c.park(Parked{Keys: keys, Kind: "list", For: wait}, c.out.NullArray)
}

func bzpop(c *call, highest bool) error {
	last := len(c.args) - 1
	wait, err := c.seconds(c.args[last])
	if err != nil {
		return err
	}
	keys := c.args[1:last]
	for _, key := range keys {
		z, it, err := wanted[*sortedSet](c, key)
		if err != nil {
			return err
		}
		if z == nil || z.len() == 0 {
			continue
		}
		c.out.Array(3)
		c.out.Bulk(key)
		c.pop(z, it, 1, highest, func(int) {}, func() {})
		return nil
	}
	return c.park(Parked{Keys: keys, Kind: "zset", For: wait}, c.out.NullArray)
}

func bzmpop(c *call) error {
	wait, keys, highest, count, err := c.timedPops("MIN", "MAX")
	if err != nil {
		return err
	}
	done, err := c.zpopFirst(keys, highest, count)
	if done || err != nil {
		return err
	}
	return c.park(Parked{Keys: keys, Kind: "zset", For: wait}, c.out.NullArray)
}
