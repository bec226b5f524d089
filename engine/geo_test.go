package engine

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTrigonometry holds our roundings to those of package math.
func TestTrigonometry(t *testing.T) {
	const off = 4e-16
	for x := -math.Pi; x <= math.Pi; x += 0.000917 {
		if math.Abs(sine(x)-math.Sin(x)) > off || math.Abs(cosine(x)-math.Cos(x)) > off {
			t.Fatalf("sine and cosine of %v: %v and %v, want %v and %v", x, sine(x), cosine(x), math.Sin(x), math.Cos(x))
		}
	}
	for x := 0.0; x <= 1; x += 0.000173 {
		if math.Abs(arcsine(x)-math.Asin(x)) > off {
			t.Fatalf("arcsine of %v: %v, want %v", x, arcsine(x), math.Asin(x))
		}
	}
	if sine(0) != 0 || cosine(0) != 1 || arcsine(0) != 0 || arcsine(1) != math.Pi/2 {
		t.Error("the corners are not exact")
	}
}

// naiveMetres is the haversine formula as books have it.
func naiveMetres(a, b point) float64 {
	rad := func(d float64) float64 { return d * math.Pi / 180 }
	h := math.Pow(math.Sin(rad(b.lat-a.lat)/2), 2) + math.Cos(rad(a.lat))*math.Cos(rad(b.lat))*math.Pow(math.Sin(rad(b.lon-a.lon)/2), 2)
	return 2 * earthRadius * math.Asin(math.Min(1, math.Sqrt(h)))
}

// TestModelGeoSearch compares a search by cells with one that looks at every member. What lies within a thousandth
// of the edge may be in or out. Centres keep away from the poles, where Redis's cells do not cover all they should.
func TestModelGeoSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, places := newWorld(t), map[string]point{}
		spread := rapid.SampledFrom([]float64{170, 20, 1, 0.01}).Draw(t, "spread")
		draw := func(what string) point {
			p := point{rapid.Float64Range(-spread, spread).Draw(t, what+" lon"), rapid.Float64Range(-min(spread, 60), min(spread, 60)).Draw(t, what+" lat")}
			if math.Abs(p.lon) < 1e-9 { // no exponents in arguments
				p.lon = 0
			}
			return p
		}
		text := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
		for i := range rapid.IntRange(1, 40).Draw(t, "members") {
			p, name := draw("place"), fmt.Sprint("m", i)
			w.do("GEOADD", "k", text(p.lon), text(p.lat), name)
			s, _ := strconv.ParseFloat(unquote(w.do("ZSCORE", "k", name)), 64)
			if s == 0 {
				s, _ = strconv.ParseFloat(strings.TrimPrefix(w.do("ZSCORE", "k", name), "(double) "), 64)
			}
			if places[name] = placeOf(s); naiveMetres(p, places[name]) > 1 {
				t.Fatalf("%v was stored as %v", p, places[name])
			}
		}
		centre, reach := draw("centre"), rapid.Float64Range(0, spread*30).Draw(t, "km")
		wide := rapid.Float64Range(0, spread*30).Draw(t, "width")
		box := rapid.Bool().Draw(t, "box")
		args := []string{"GEOSEARCH", "k", "FROMLONLAT", text(centre.lon), text(centre.lat), "BYRADIUS", text(reach), "km", "ASC"}
		if box {
			args = slices.Concat(args[:5], []string{"BYBOX", text(wide), text(reach), "km", "ASC"})
		}
		found := strings.Fields(strings.Trim(w.do(args...), "[]"))
		last := 0.0
		for _, quoted := range found {
			p := places[unquote(quoted)]
			if d := naiveMetres(centre, p); d < last-1e-3 {
				t.Fatalf("%s at %v m comes after %v m", quoted, d, last)
			} else {
				last = d
			}
		}
		for name, p := range places {
			// room is how far inside p is, below 0 outside, as a share of the whole
			room := 1 - naiveMetres(centre, p)/(reach*1000)
			if box {
				room = min(1-2*naiveMetres(point{centre.lon, p.lat}, p)/(wide*1000), 1-2*naiveMetres(centre, point{centre.lon, p.lat})/(reach*1000))
			}
			if is := slices.Contains(found, strconv.Quote(name)); math.Abs(room) > 1e-3 && is != (room > 0) {
				t.Fatalf("%q\n%s at %v with room for %v: found is %v", args, name, p, room, is)
			}
		}
		store := append([]string{"GEOSEARCHSTORE", "near"}, args[1:]...)
		if got := w.do(store...); got != strconv.Itoa(len(found)) {
			t.Fatalf("stored %s, found %d", got, len(found))
		}
	})
}

// TestAnyScoreIsSomePlace: GEO commands meet scores that ZADD wrote.
func TestAnyScoreIsSomePlace(t *testing.T) {
	w := newWorld(t)
	for i, score := range []string{"0", "-1", "1.5", "4503599627370495", "4503599627370496", "9007199254740992", "1e300", "-1e300", "inf", "-inf", "18446744073709551616", "9223372036854775808"} {
		w.do("ZADD", "k", score, fmt.Sprint("m", i))
		f, _ := parseFloat([]byte(score))
		if p := placeOf(f); !(math.Abs(p.lon) <= maxLongitude) || !(math.Abs(p.lat) <= maxLatitude) {
			t.Errorf("score %s is the place %v", score, p)
		}
	}
	for _, command := range [][]string{
		{"GEOPOS", "k", "m0", "m1", "m8"}, {"GEOHASH", "k", "m0", "m1", "m8"}, {"GEODIST", "k", "m6", "m9"},
		{"GEOSEARCH", "k", "FROMMEMBER", "m8", "BYRADIUS", "inf", "km", "WITHDIST", "WITHHASH", "WITHCOORD"},
		{"GEOSEARCHSTORE", "d", "k", "FROMMEMBER", "m9", "BYBOX", "inf", "inf", "mi", "STOREDIST"},
	} {
		if got := w.do(command...); strings.HasPrefix(got, "(error)") || strings.Contains(got, "NaN") {
			t.Errorf("%q: %s", command, got)
		}
	}
}

// TestStoredKeysAreKeys: routing and rights know the key after STORE.
func TestStoredKeysAreKeys(t *testing.T) {
	var args [][]byte
	for _, a := range strings.Fields("GEORADIUSBYMEMBER k STORE 1 km COUNT 5 store d") {
		args = append(args, []byte(a))
	}
	c := Lookup(args[0])
	if keys := c.AppendKeys(nil, args); len(keys) != 2 || string(keys[0]) != "k" || string(keys[1]) != "d" {
		t.Errorf("keys %q", keys)
	}
	rights := c.AppendRights(nil, args)
	if len(rights) != 2 || rights[0].Action != "cache:SortedSetRead" || rights[1].Action != "cache:SortedSetWrite" || string(rights[1].Name) != "d" {
		t.Errorf("rights %v", rights)
	}
	if f := c.FactsOf(args[:8], start); f.MaxItems != math.MaxInt64 {
		t.Errorf("a search that will fail lists %d", f.MaxItems)
	}
	if f := c.FactsOf(args[:7], start); f.MaxItems != 5 {
		t.Errorf("a search of 5 lists %d", f.MaxItems)
	}
}
