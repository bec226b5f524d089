package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// A printer prints answers: JSON for programs, aligned text for people.
type printer struct {
	out, notes io.Writer
	json       bool
}

// A field is one line of what people are shown of a thing.
type field struct {
	name  string
	value any
}

// show prints one thing. Fields whose value is empty are left out.
func (p *printer) show(thing any, fields ...field) error {
	if p.json {
		return writeJSON(p.out, thing)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		if text := cell(f.value); text != "" {
			fmt.Fprintf(w, "%s\t%s\n", f.name, text)
		}
	}
	return w.Flush()
}

// done says that a thing was done, to people.
func (p *printer) done(format string, args ...any) error {
	if p.json {
		return nil
	}
	_, err := fmt.Fprintf(p.out, format+"\n", args...)
	return err
}

// paging is how much of a list is shown.
type paging struct {
	limit int
	all   bool
}

func (g *paging) flags(f *pflag.FlagSet) {
	f.IntVar(&g.limit, "limit", 100, "how many are shown")
	f.BoolVar(&g.all, "all", false, "show all, however many")
}

// maxPage is how many items the server puts on a page at most.
const maxPage = 1000

// list prints a list, page by page: as one JSON array, or as a table under header with a row for each item.
// fetch gets a page, given the cursor of the page before.
func list[T any](p *printer, g paging, header string, fetch func(cursor *string, limit *int) ([]T, string, error), row func(T) []any) error {
	if g.limit < 1 && !g.all {
		return misuse("--limit is at least 1, not %d", g.limit)
	}
	shown, cursor, separator := 0, (*string)(nil), "[\n  "
	for {
		limit := maxPage
		if !g.all {
			limit = min(limit, g.limit-shown)
		}
		items, next, err := fetch(cursor, &limit)
		if err != nil {
			return err
		}
		more := next != ""
		if !g.all && len(items) > g.limit-shown { // a page may hold a few more than asked for
			items, more = items[:g.limit-shown], true
		}
		if p.json {
			for _, item := range items {
				text, err := json.MarshalIndent(item, "  ", "  ")
				if err != nil {
					return err
				}
				fmt.Fprintf(p.out, "%s%s", separator, text)
				separator = ",\n  "
			}
		} else if err := p.table(shown == 0 && (len(items) > 0 || !more), header, rows(items, row)); err != nil {
			return err
		}
		shown += len(items)
		if !more || (!g.all && shown >= g.limit) {
			if more {
				fmt.Fprintf(p.notes, "There are more than these %d; --all shows all.\n", shown)
			}
			break
		}
		cursor = &next
	}
	if !p.json {
		return nil
	}
	end := "\n]\n"
	if shown == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(p.out, end)
	return err
}

func rows[T any](items []T, row func(T) []any) [][]any {
	made := make([][]any, len(items))
	for i, item := range items {
		made[i] = row(item)
	}
	return made
}

// table prints rows, and above them their header if it is wanted.
func (p *printer) table(withHeader bool, header string, rows [][]any) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	if withHeader {
		fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			if cells[i] = cell(v); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// bytesize is a number of bytes, shown in a unit that suits it.
type bytesize int64

// cell writes a value for people; empty when there is none.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case *string:
		if v == nil {
			return ""
		}
		return printable(*v)
	case []string:
		return printable(strings.Join(v, ", "))
	case time.Time:
		return v.Local().Format("2006-01-02 15:04:05")
	case *time.Time:
		if v == nil {
			return ""
		}
		return cell(*v)
	case bytesize:
		return v.String()
	}
	return fmt.Sprint(v)
}

// printable is text as it is if a terminal shows it as it is, else quoted: a key cannot move the cursor.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

var byteUnits = []string{"B", "KiB", "MiB", "GiB", "TiB"}

func (b bytesize) String() string {
	f, unit := float64(b), 0
	for ; f >= 1024 && unit < len(byteUnits)-1; unit++ {
		f /= 1024
	}
	return strconv.FormatFloat(float64(int64(f*10))/10, 'f', -1, 64) + " " + byteUnits[unit]
}

// bytesFlag reads a number of bytes with a unit: 512MiB, 1GiB, 4096. It implements pflag.Value.
type bytesFlag struct{ to *int64 }

func (b bytesFlag) Type() string   { return "bytes" }
func (b bytesFlag) String() string { return "" }

func (b bytesFlag) Set(s string) error {
	text, factor := s, int64(1)
	for i, unit := range byteUnits {
		for _, name := range []string{unit, strings.TrimSuffix(unit, "iB")} { // MiB, M
			if rest, ok := strings.CutSuffix(s, name); ok && name != "" {
				text, factor = rest, 1<<(10*i)
			}
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if exact := n * float64(factor); err != nil || n < 0 || exact != float64(int64(exact)) || exact >= 1<<62 {
		return fmt.Errorf("%q is not a whole number of bytes such as 1048576, 512MiB or 1GiB", s)
	}
	*b.to = int64(n * float64(factor))
	return nil
}

// indented is JSON for people.
func indented(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return string(text)
	}
	return b.String()
}
