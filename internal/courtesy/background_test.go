package courtesy

import "testing"

func TestBackgroundEndsWithTheLastStep(t *testing.T) {
	for _, steps := range []int{1, 2, 10_000} {
		n := 0
		Background(func() bool { n++; return n < steps })
		if n != steps {
			t.Errorf("%d steps were carried out, not %d", n, steps)
		}
	}
}

func TestHunger(t *testing.T) {
	for _, c := range []struct {
		name   string
		stats  []string
		starve bool
	}{
		{name: "it is not known how things were before", stats: []string{"1000 9000000000 3"}},
		{name: "it got nothing for a second", stats: []string{"1000 5000 3", "2000 1000005000 4"}, starve: true},
		{name: "it got half", stats: []string{"1000 5000 3", "1000001000 1000005000 4"}},
		{name: "it did not want much", stats: []string{"1000 5000 3", "2000 400005000 4"}},
		{name: "little by little", stats: []string{"1000 5000 3", "2000 400005000 4", "3000 800005000 5"}, starve: true},
		{name: "once, and then it was better", stats: []string{"1000 5000 3", "2000 1000005000 4", "1000002000 1600005000 5"}},
		{name: "the kernel says something else", stats: []string{"", "running"}},
	} {
		var h hunger
		starves := false
		for _, s := range c.stats {
			starves = h.grows(s)
		}
		if starves != c.starve {
			t.Errorf("%s: %v", c.name, starves)
		}
	}
}
