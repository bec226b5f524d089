package engine

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestCategoriesAreThoseOfRedis(t *testing.T) {
	text, err := os.ReadFile("testdata/redis-categories.txt")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		c := Lookup([]byte(fields[0]))
		if c == nil {
			t.Errorf("%s is gone from the table", fields[0])
			continue
		}
		got, want := c.Categories(), fields[1:]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, Redis has %v", c.Name, got, want)
		}
		compared++
	}
	if compared < 90 {
		t.Errorf("only %d commands were compared", compared)
	}
}
