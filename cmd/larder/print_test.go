package main

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestBytesFlag(t *testing.T) {
	cases := []struct {
		text string
		want int64 // -1: refused
	}{
		{"0", 0}, {"4096", 4096}, {"1B", 1}, {"1KiB", 1024}, {"1K", 1024}, {"1.5KiB", 1536}, {"64MiB", 64 << 20}, {"64 MiB", 64 << 20}, {"1GiB", 1 << 30},
		{"16TiB", 16 << 40}, {"1e3", 1000},
		{"", -1}, {"MiB", -1}, {"64MB", -1}, {"64mib", -1}, {"-1", -1}, {"1.5", -1}, {"0.1KiB", -1}, {"NaN", -1}, {"Inf", -1}, {"4194304TiB", -1}, {"1 2", -1},
	}
	for _, c := range cases {
		got := int64(-1)
		if err := (bytesFlag{&got}).Set(c.text); (err != nil) != (c.want < 0) || got != c.want {
			t.Errorf("%q: got %d, %v, want %d", c.text, got, err, c.want)
		}
	}
}

func TestCell(t *testing.T) {
	text := "text"
	cases := []struct {
		name  string
		value any
		want  string
	}{
		{name: "text", value: "ä ö", want: "ä ö"},
		{name: "a key that would move the cursor", value: "a\x1b[2Jb", want: `"a\x1b[2Jb"`},
		{name: "a key that would break the line", value: "a\nb", want: `"a\nb"`},
		{name: "a key that is not UTF-8", value: "a\xff", want: `"a\xff"`},
		{name: "text that may be missing", value: &text, want: "text"},
		{name: "text that is missing", value: (*string)(nil), want: ""},
		{name: "a time that is missing", value: (*time.Time)(nil), want: ""},
		{name: "a list", value: []string{"a", "b"}, want: "a, b"},
		{name: "no bytes", value: bytesize(0), want: "0 B"},
		{name: "one less than the next unit", value: bytesize(1023), want: "1023 B"},
		{name: "half a unit", value: bytesize(1536), want: "1.5 KiB"},
		{name: "more than the largest unit", value: bytesize(5000 << 40), want: "5000 TiB"},
		{name: "a number", value: int64(7), want: "7"},
	}
	for _, c := range cases {
		if got := cell(c.value); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// A list goes on over pages that are empty or hold more than was asked for, and stops at its limit.
func TestList(t *testing.T) {
	cases := []struct {
		name  string
		pages []string // one letter for each item
		page  paging
		want  string
		more  bool
	}{
		{name: "nothing", pages: []string{""}, page: paging{limit: 10}, want: ""},
		{name: "one page", pages: []string{"ab"}, page: paging{limit: 10}, want: "ab"},
		{name: "empty pages on the way", pages: []string{"", "a", "", "b", ""}, page: paging{limit: 10}, want: "ab"},
		{name: "exactly the limit", pages: []string{"ab"}, page: paging{limit: 2}, want: "ab"},
		{name: "the limit at the end of a page", pages: []string{"ab", "c"}, page: paging{limit: 2}, want: "ab", more: true},
		{name: "the limit within a page", pages: []string{"ab", "cd"}, page: paging{limit: 3}, want: "abc", more: true},
		{name: "all", pages: []string{"ab", "cd", "e"}, page: paging{limit: 3, all: true}, want: "abcde"},
	}
	for _, c := range cases {
		for _, asJSON := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				var out, notes strings.Builder
				at := 0
				fetch := func(cursor *string, limit *int) (items []string, next string, err error) {
					if (cursor == nil) != (at == 0) || *limit < 1 || *limit > maxPage {
						t.Errorf("page %d was asked for with cursor %v and limit %d", at, cursor, *limit)
					}
					if c.pages[at] != "" {
						items = strings.Split(c.pages[at], "")
					}
					if at++; at < len(c.pages) {
						next = "more"
					}
					return items, next, nil
				}
				if err := list(&printer{&out, &notes, asJSON}, c.page, "NAME", fetch, func(s string) []any { return []any{s} }); err != nil {
					t.Fatal(err)
				}
				got, wantHeader := out.String(), "NAME\n"
				if asJSON {
					wantHeader = ""
					got = strings.NewReplacer(`"`, "", ",", "", "[", "", "]", "", " ", "").Replace(got)
				}
				got, ok := strings.CutPrefix(got, wantHeader)
				if got = strings.ReplaceAll(got, "\n", ""); !ok || got != c.want || (notes.Len() > 0) != c.more {
					t.Errorf("got %q and the note %q, want %q, more: %v", out.String(), notes.String(), c.want, c.more)
				}
			})
		}
	}
	broken := errors.New("broken")
	fetch := func(*string, *int) ([]string, string, error) { return nil, "", broken }
	if err := list(&printer{new(strings.Builder), new(strings.Builder), true}, paging{limit: 1}, "NAME", fetch, nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// What a server says of its address is something that a client can dial.
func TestReachable(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80"} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(a); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}
