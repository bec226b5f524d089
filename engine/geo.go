package engine

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// A place on the map is a member of a sorted set whose score is its geohash, as in Redis: longitude and latitude
// as fractions of their ranges, 26 bits each, the bits taken in turns with longitude first. Scores that begin
// with the same bits lie in the same cell of the map, so a search asks for the nine cells around its centre,
// each a range of scores, and looks at every member in them.
//
// Which members a search finds may be stored, and replicas may run on different processors. So no product here
// goes into a sum unrounded: where the compiler is free to fuse the two, as on arm64, it would.
var geoCommands = []Command{
	{Name: "GEOADD", Arity: -5, Keys: oneKey, Flags: Writes | Grows, Group: GroupGeo, Action: "cache:SortedSetWrite", Facts: geoaddFacts, run: geoadd,
		Usage:   "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
		Summary: "Adds members with their places, or moves members to other places", Complexity: "O(log N) for each member", Since: "3.2.0"},
	{Name: "GEOPOS", Arity: -2, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", run: geopos,
		Usage: "key [member [member ...]]", Summary: "Returns the longitudes and latitudes of members", Complexity: "O(1) for each member", Since: "3.2.0"},
	{Name: "GEODIST", Arity: -4, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", run: geodist,
		Usage: "key member1 member2 [M | KM | FT | MI]", Summary: "Returns the distance between two members", Complexity: "O(1)", Since: "3.2.0"},
	{Name: "GEOHASH", Arity: -2, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", run: geohash,
		Usage: "key [member [member ...]]", Summary: "Returns the places of members as standard geohashes", Complexity: "O(1) for each member", Since: "3.2.0"},
	{Name: "GEOSEARCH", Arity: -7, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", Facts: geoFacts(geoForm{options: 2}),
		run:     func(c *call) error { return geosearch(c, geoForm{options: 2}) },
		Usage:   "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
		Summary: "Returns the members within a circle or a box", Complexity: "O(log N + M) for M members in the cells around it", Since: "6.2.0"},
	{Name: "GEOSEARCHSTORE", Arity: -8, Keys: twoKeys, Flags: Writes | Grows, rests: true, Group: GroupGeo, Action: "cache:SortedSetWrite", Rights: zrangestoreRights,
		run:     func(c *call) error { return geosearch(c, geoForm{options: 3, source: 1}) },
		Usage:   "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
		Summary: "Stores the members within a circle or a box under another key", Complexity: "O(log N + M log M) for M members in the cells around it", Since: "6.2.0"},
	{Name: "GEORADIUS", Arity: -6, Keys: georadiusKeys, Flags: Writes | Grows, Group: GroupGeo, Action: "cache:SortedSetRead", Also: storedRights(georadiusKeys), Facts: geoFacts(geoForm{options: 6, stores: true}),
		run:     func(c *call) error { return geosearch(c, geoForm{options: 6, stores: true}) },
		Usage:   "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
		Summary: "Returns or stores the members within a circle: the old form of GEOSEARCH", Complexity: "O(log N + M) for M members in the cells around it", Since: "3.2.0"},
	{Name: "GEORADIUS_RO", Arity: -6, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", Facts: geoFacts(geoForm{options: 6}),
		run:     func(c *call) error { return geosearch(c, geoForm{options: 6}) },
		Usage:   "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
		Summary: "Returns the members within a circle: an old form of GEOSEARCH", Complexity: "O(log N + M) for M members in the cells around it", Since: "3.2.10"},
	{Name: "GEORADIUSBYMEMBER", Arity: -5, Keys: bymemberKeys, Flags: Writes | Grows, Group: GroupGeo, Action: "cache:SortedSetRead", Also: storedRights(bymemberKeys), Facts: geoFacts(geoForm{options: 5, stores: true}),
		run:     func(c *call) error { return geosearch(c, geoForm{options: 5, stores: true}) },
		Usage:   "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
		Summary: "Returns or stores the members within a circle around a member: the old form of GEOSEARCH", Complexity: "O(log N + M) for M members in the cells around it", Since: "3.2.0"},
	{Name: "GEORADIUSBYMEMBER_RO", Arity: -5, Keys: oneKey, Group: GroupGeo, Action: "cache:SortedSetRead", Facts: geoFacts(geoForm{options: 5}),
		run:     func(c *call) error { return geosearch(c, geoForm{options: 5}) },
		Usage:   "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
		Summary: "Returns the members within a circle around a member: an old form of GEOSEARCH", Complexity: "O(log N + M) for M members in the cells around it", Since: "3.2.10"},
}

// Where keys stand in the old forms, whose options begin at the fifth or sixth argument.
var (
	georadiusKeys = Keys{First: 1, Last: 1, Step: 1, Store: 6}
	bymemberKeys  = Keys{First: 1, Last: 1, Step: 1, Store: 5}
)

// The bounds of the map, which is Web Mercator's: the poles are not on it.
const (
	maxLongitude = 180
	maxLatitude  = 85.05112878
	geoSteps     = 26 // bits of a score for each of longitude and latitude

	earthRadius  = 6372797.560856 // metres, as Redis has it
	mercatorHalf = 20037726.37    // metres: half the map's width
)

// A point is a place in degrees.
type point struct{ lon, lat float64 }

// A cell is a rectangle of the map, which has 2^steps columns and as many rows of them.
type cell struct {
	column, row uint32 // from the west and from the south
	steps       int
}

// cellAt returns the cell that holds p on a map that ends at a latitude. The eastern and northern edges lie in
// a cell beyond the last, as in Redis.
func cellAt(p point, latitude float64, steps int) cell {
	size := float64(uint64(1) << steps)
	return cell{
		column: uint32((p.lon + maxLongitude) / (2 * maxLongitude) * size),
		row:    uint32((p.lat + latitude) / (2 * latitude) * size),
		steps:  steps,
	}
}

// bits are the geohash of the cell.
func (c cell) bits() uint64 { return spread(c.row) | spread(c.column)<<1 }

// spread puts the bits of n in every second place.
func spread(n uint32) uint64 {
	x := uint64(n)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f
	x = (x | x<<2) & 0x3333333333333333
	return (x | x<<1) & 0x5555555555555555
}

// gather takes the bits in every second place of x: the reverse of spread.
func gather(x uint64) uint32 {
	x &= 0x5555555555555555
	x = (x | x>>1) & 0x3333333333333333
	x = (x | x>>2) & 0x0f0f0f0f0f0f0f0f
	x = (x | x>>4) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
}

// beside returns the cell so many columns and rows away, beyond an edge from the opposite one.
func (c cell) beside(columns, rows int) cell {
	mask := uint32(1)<<c.steps - 1
	return cell{(c.column + uint32(columns)) & mask, (c.row + uint32(rows)) & mask, c.steps}
}

// onMap returns the cell, or the last one on the map beside it.
func (c cell) onMap() cell {
	last := uint32(1)<<c.steps - 1
	return cell{min(c.column, last), min(c.row, last), c.steps}
}

// scores returns the scores min <= s < max of the places in the cell.
func (c cell) scores() (min, max float64) {
	below := 2 * (geoSteps - c.steps)
	return float64(c.bits() << below), float64((c.bits() + 1) << below)
}

// An area is what a cell covers.
type area struct{ west, east, south, north float64 }

func (c cell) area() area {
	size := float64(uint64(1) << c.steps)
	along := func(n uint32, end float64) float64 { return -end + float64(float64(n)/size*(2*end)) }
	return area{
		west: along(c.column, maxLongitude), east: along(c.column+1, maxLongitude),
		south: along(c.row, maxLatitude), north: along(c.row+1, maxLatitude),
	}
}

// placeOf returns the place that a score stands for: the middle of its cell. Any score is some place.
func placeOf(score float64) point {
	bits := scoreBits(score)
	a := cell{column: gather(bits >> 1), row: gather(bits), steps: geoSteps}.area()
	return point{
		lon: min(max((a.west+a.east)/2, -maxLongitude), maxLongitude),
		lat: min(max((a.south+a.north)/2, -maxLatitude), maxLatitude),
	}
}

// scoreBits is a score as an integer. Beyond the range of one, where processors differ, it is what x86 makes of it.
func scoreBits(score float64) uint64 {
	switch {
	case score >= 0 && score < 1<<64:
		return uint64(score)
	case score < 0 && score >= -1<<63:
		return uint64(int64(score))
	}
	return 1 << 63
}

// metres is the distance between two points on a sphere, by the haversine formula.
func metres(a, b point) float64 {
	v := sine((radians(b.lon) - radians(a.lon)) / 2)
	if v == 0 {
		return metresNorth(a.lat, b.lat)
	}
	lat1, lat2 := radians(a.lat), radians(b.lat)
	u := sine((lat2 - lat1) / 2)
	h := float64(u*u) + float64(float64(float64(cosine(lat1)*cosine(lat2))*v)*v)
	return 2 * earthRadius * arcsine(math.Sqrt(min(h, 1))) // rounding may have left more than 1
}

// metresNorth is the distance between two latitudes.
func metresNorth(a, b float64) float64 {
	return earthRadius * math.Abs(radians(b)-radians(a))
}

func radians(degrees float64) float64 { return float64(degrees * (math.Pi / 180)) }
func degrees(radians float64) float64 { return radians / (math.Pi / 180) }

// sine, cosine and arcsine are those of package math (which has them from the Cephes library), rounded after
// every step, for angles of at most one turn.

func sine(x float64) float64 {
	if x < 0 {
		return -sine(-x)
	}
	octant, z := reduce(x)
	y := wave(z, octant == 1 || octant == 2)
	if octant > 3 {
		return -y
	}
	return y
}

func cosine(x float64) float64 {
	octant, z := reduce(math.Abs(x))
	y := wave(z, octant != 1 && octant != 2 && octant != 5 && octant != 6)
	if octant > 1 && octant < 6 {
		return -y
	}
	return y
}

// reduce returns the eighth of the turn that x >= 0 is nearest to the even edge of, and how far it is from there.
func reduce(x float64) (octant int, z float64) {
	n := int(x * (4 / math.Pi))
	n += n & 1
	y := float64(n)
	z = x - float64(y*7.85398125648498535156e-1) // π/4 in three parts
	z -= float64(y * 3.77489470793079817668e-8)
	z -= float64(y * 2.69515142907905952645e-15)
	return n & 7, z
}

// wave is the sine, or cosine, of |z| <= π/4.
func wave(z float64, cosine bool) float64 {
	zz := float64(z * z)
	if cosine {
		return 1 - float64(0.5*zz) + float64(float64(zz*zz)*polynomial(zz, -1.13585365213876817300e-11, 2.08757008419747316778e-9,
			-2.75573141792967388112e-7, 2.48015872888517045348e-5, -1.38888888888730564116e-3, 4.16666666666665929218e-2))
	}
	return z + float64(float64(z*zz)*polynomial(zz, 1.58962301576546568060e-10, -2.50507477628578072866e-8,
		2.75573136213857245213e-6, -1.98412698295895385996e-4, 8.33333333332211858878e-3, -1.66666666666666307295e-1))
}

// polynomial is the value at x of the polynomial with these coefficients, the highest first.
func polynomial(x float64, coefficients ...float64) (y float64) {
	for _, c := range coefficients {
		y = float64(y*x) + c
	}
	return y
}

// arcsine takes 0 <= x <= 1.
func arcsine(x float64) float64 {
	y := math.Sqrt(1 - float64(x*x))
	if x > 0.7 {
		return math.Pi/2 - arctangent(y/x)
	}
	return arctangent(x / y)
}

// arctangent takes 0 <= x < 1.1.
func arctangent(x float64) float64 {
	if x > 0.66 {
		return math.Pi/4 + arctangentNear0((x-1)/(x+1)) + 0.5*6.123233995736765886130e-17 // the rest of π/4
	}
	return arctangentNear0(x)
}

func arctangentNear0(x float64) float64 {
	z := float64(x * x)
	p := polynomial(z, -8.750608600031904122785e-01, -1.615753718733365076637e+01, -7.500855792314704667340e+01, -1.228866684490136173410e+02, -6.485021904942025371773e+01)
	q := polynomial(z, 1, +2.485846490142306297962e+01, +1.650270098316988542046e+02, +4.328810604912902668951e+02, +4.853903996359136964868e+02, +1.945506571482613964425e+02)
	return float64(x*(float64(z*p)/q)) + x
}

// parsePoint reads a longitude and a latitude.
func parsePoint(op string, lon, lat []byte) (p point, err error) {
	var ok, ok2 bool
	p.lon, ok = parseFloat(lon)
	p.lat, ok2 = parseFloat(lat)
	if !ok || !ok2 {
		return p, errNotFloat
	}
	if math.Abs(p.lon) > maxLongitude || math.Abs(p.lat) > maxLatitude {
		return p, fault.New(fault.OutOfRange, op, "invalid longitude,latitude pair %s,%s", fixed(p.lon, 6), fixed(p.lat, 6))
	}
	return p, nil
}

// fixed writes f with so many decimals, as C does.
func fixed(f float64, decimals int) []byte {
	if math.IsInf(f, 0) {
		return appendFloat(nil, f)
	}
	return strconv.AppendFloat(nil, f, 'f', decimals, 64)
}

// parseUnit returns how many metres a unit has.
func parseUnit(op string, unit []byte) (float64, error) {
	switch {
	case is(unit, "M"):
		return 1, nil
	case is(unit, "KM"):
		return 1000, nil
	case is(unit, "FT"):
		return 0.3048, nil
	case is(unit, "MI"):
		return 1609.34, nil
	}
	return 0, fault.About(fault.InvalidArgument, op, "unit", "unsupported unit provided. please use M, KM, FT, MI")
}

// geoaddOptions reads what stands between the key and the first place in GEOADD.
func geoaddOptions(args [][]byte) (o zaddOptions, places [][]byte) {
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "NX"):
			o.nx = true
		case is(a, "XX"):
			o.xx = true
		case is(a, "CH"):
			o.ch = true
		default:
			return o, args[i:]
		}
	}
	return o, nil
}

func geoaddFacts(args [][]byte, _ int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	_, places := geoaddOptions(args)
	for i := 2; i < len(places); i += 3 {
		f.ValueSize += int64(len(places[i]))
	}
	return f
}

// geoadd is ZADD with scores made of places.
func geoadd(c *call) error {
	o, places := geoaddOptions(c.args)
	if len(places) == 0 || len(places)%3 != 0 || o.nx && o.xx {
		return errSyntax
	}
	pairs := make([][]byte, 0, len(places)/3*2)
	for i := 0; i < len(places); i += 3 {
		p, err := parsePoint(c.cmd.Name, places[i], places[i+1])
		if err != nil {
			return err
		}
		pairs = append(pairs, strconv.AppendUint(nil, cellAt(p, maxLatitude, geoSteps).bits(), 10), places[i+2])
	}
	return c.addScores(c.args[1], o, pairs)
}

func geopos(c *call) error {
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, member := range c.args[2:] {
		c.step()
		if s, found := z.find(member); found {
			c.point(placeOf(s.score))
		} else {
			c.out.NullArray()
		}
	}
	return nil
}

// point replies with a longitude and a latitude, as text: a double in a reply is as short as it can be, and
// Redis's places have 17 decimals.
func (c *call) point(p point) {
	c.out.Array(2)
	for _, f := range [2]float64{p.lon, p.lat} {
		text := fixed(f, 17)
		for text[len(text)-1] == '0' {
			text = text[:len(text)-1]
		}
		if text[len(text)-1] == '.' {
			text = text[:len(text)-1]
		}
		decimal(c.out, text)
	}
}

func geodist(c *call) error {
	unit := 1.0
	if len(c.args) > 5 {
		return errSyntax
	}
	if len(c.args) == 5 {
		var err error
		if unit, err = parseUnit(c.cmd.Name, c.args[4]); err != nil {
			return err
		}
	}
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	a, foundA := z.find(c.args[2])
	b, foundB := z.find(c.args[3])
	if !foundA || !foundB {
		c.out.Null()
		return nil
	}
	c.out.Bulk(fixed(metres(placeOf(a.score), placeOf(b.score))/unit, 4))
	return nil
}

// geohash answers with geohashes on the map that others use, which has the poles. Scores have 52 bits, so the
// last of the eleven characters is always 0.
func geohash(c *call) error {
	const alphabet = "0123456789bcdefghjkmnpqrstuvwxyz"
	z, err := c.sortedSet(c.args[1])
	if err != nil {
		return err
	}
	c.out.Array(len(c.args) - 2)
	for _, member := range c.args[2:] {
		c.step()
		s, found := z.find(member)
		if !found {
			c.out.Null()
			continue
		}
		bits := cellAt(placeOf(s.score), 90, geoSteps).bits()
		text := [11]byte{10: '0'}
		for i := range 10 {
			text[i] = alphabet[bits>>(2*geoSteps-5*(i+1))&31]
		}
		c.out.Bulk(text[:])
	}
	return nil
}

// A geoForm is what a command's name says of its search.
type geoForm struct {
	options int  // where options begin: with 6 behind a place, a radius and a unit, with 5 behind a member and these
	source  int  // 1 when another key stands before the set's, to store under
	stores  bool // STORE and STOREDIST are among the options
}

// A geoQuery is a search, as GEOSEARCH and its kin take it.
type geoQuery struct {
	centre        point
	box           bool
	radius        float64 // in units
	width, height float64 // in units
	unit          float64 // metres
	order         int     // 1 the nearest first, -1 the farthest, 0 as they come
	count         int64   // 0 for all
	any           bool    // the first that are found will do
	withDistance  bool
	withHash      bool
	withPoint     bool
	stores        bool
	storeTo       []byte
	storeDistance bool
}

func parseDistance(op string, number, unit []byte) (n, metres float64, err error) {
	n, ok := parseFloat(number)
	if !ok {
		return 0, 0, fault.About(fault.InvalidArgument, op, "radius", "need numeric radius")
	}
	if n < 0 {
		return 0, 0, fault.About(fault.OutOfRange, op, "radius", "radius cannot be negative")
	}
	metres, err = parseUnit(op, unit)
	return n, metres, err
}

// centred puts the centre where a member of z is. Without a set there is nothing to find.
func (q *geoQuery) centred(op string, z *sortedSet, member []byte) error {
	if z == nil {
		return nil
	}
	s, found := z.find(member)
	if !found {
		return fault.About(fault.NotFound, op, "member", "could not decode requested zset member")
	}
	q.centre = placeOf(s.score)
	return nil
}

// parseGeoQuery reads a search in z, which is nil when there is no set, in the order in which Redis reads it.
func parseGeoQuery(op string, args [][]byte, form geoForm, z *sortedSet) (q geoQuery, err error) {
	searches := form.options < 5
	switch form.options {
	case 3:
		q.stores, q.storeTo = true, args[1]
	case 6:
		if q.centre, err = parsePoint(op, args[2], args[3]); err != nil {
			return q, err
		}
		if q.radius, q.unit, err = parseDistance(op, args[4], args[5]); err != nil {
			return q, err
		}
	case 5:
		if z == nil {
			break
		}
		if err = q.centred(op, z, args[2]); err != nil {
			return q, err
		}
		if q.radius, q.unit, err = parseDistance(op, args[3], args[4]); err != nil {
			return q, err
		}
	}
	var fromMember, fromPoint, byRadius, byBox bool
	options := args[form.options:]
	for i := 0; i < len(options); i++ {
		switch a, left := options[i], len(options)-i-1; {
		case is(a, "WITHDIST"):
			q.withDistance = true
		case is(a, "WITHHASH"):
			q.withHash = true
		case is(a, "WITHCOORD"):
			q.withPoint = true
		case is(a, "ANY"):
			q.any = true
		case is(a, "ASC"):
			q.order = 1
		case is(a, "DESC"):
			q.order = -1
		case is(a, "COUNT") && left > 0:
			i++
			var ok bool
			if q.count, ok = parseInt(options[i]); !ok {
				return q, errNotInteger
			}
			if q.count <= 0 {
				return q, fault.About(fault.OutOfRange, op, "count", "COUNT must be > 0")
			}
		case form.stores && left > 0 && (is(a, "STORE") || is(a, "STOREDIST")):
			i++
			q.stores, q.storeTo, q.storeDistance = true, options[i], is(a, "STOREDIST")
		case form.options == 3 && is(a, "STOREDIST"):
			q.storeDistance = true
		case searches && !fromPoint && left > 0 && is(a, "FROMMEMBER"):
			i++
			if err = q.centred(op, z, options[i]); err != nil {
				return q, err
			}
			fromMember = true
		case searches && !fromMember && left > 1 && is(a, "FROMLONLAT"):
			if q.centre, err = parsePoint(op, options[i+1], options[i+2]); err != nil {
				return q, err
			}
			fromPoint = true
			i += 2
		case searches && !byBox && left > 1 && is(a, "BYRADIUS"):
			if q.radius, q.unit, err = parseDistance(op, options[i+1], options[i+2]); err != nil {
				return q, err
			}
			byRadius = true
			i += 2
		case searches && !byRadius && left > 2 && is(a, "BYBOX"):
			if err = q.parseBox(op, options[i+1], options[i+2], options[i+3]); err != nil {
				return q, err
			}
			byBox, q.box = true, true
			i += 3
		default:
			return q, errSyntax
		}
	}
	switch {
	case q.stores && (q.withDistance || q.withHash || q.withPoint):
		what := "STORE option in GEORADIUS"
		if searches {
			what = "GEOSEARCHSTORE"
		}
		return q, fault.New(fault.InvalidArgument, op, "%s is not compatible with WITHDIST, WITHHASH and WITHCOORD options", what)
	case searches && !fromMember && !fromPoint:
		return q, fault.New(fault.InvalidArgument, op, "exactly one of FROMMEMBER or FROMLONLAT can be specified for %s", args[0])
	case searches && !byRadius && !byBox:
		return q, fault.New(fault.InvalidArgument, op, "exactly one of BYRADIUS and BYBOX can be specified for %s", args[0])
	case q.any && q.count == 0:
		return q, fault.New(fault.InvalidArgument, op, "the ANY argument requires COUNT argument")
	}
	if q.count > 0 && q.order == 0 && !q.any {
		q.order = 1 // the first few of no order would be no answer
	}
	return q, nil
}

func (q *geoQuery) parseBox(op string, width, height, unit []byte) (err error) {
	var ok bool
	if q.width, ok = parseFloat(width); !ok {
		return fault.About(fault.InvalidArgument, op, "width", "need numeric width")
	}
	if q.height, ok = parseFloat(height); !ok {
		return fault.About(fault.InvalidArgument, op, "height", "need numeric height")
	}
	if q.width < 0 || q.height < 0 {
		return fault.About(fault.OutOfRange, op, "width", "height or width cannot be negative")
	}
	q.unit, err = parseUnit(op, unit)
	return err
}

// geoFacts tells how many members a search may list; one that stores lists none.
func geoFacts(form geoForm) facts {
	return func(args [][]byte, _ int64) Facts {
		q, err := parseGeoQuery("", args, form, nil)
		switch {
		case err != nil || !q.stores && q.count == 0:
			return listing(math.MaxInt64)
		case q.stores:
			return Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
		}
		return listing(q.count)
	}
}

// storedRights: whatever follows a STORE is written.
func storedRights(keys Keys) rights {
	return func(dst []Right, args [][]byte) []Right {
		for _, key := range keys.stored(nil, args) {
			dst = append(dst, Right{Action: "cache:SortedSetWrite", On: OnKey, Name: key})
		}
		return dst
	}
}

// A find is a member that a search came upon.
type find struct {
	scored
	at       point
	distance float64 // metres from the centre
}

// covers says whether p is within the circle or the box, and how far it is from the centre.
func (q *geoQuery) covers(p point) (distance float64, ok bool) {
	if !q.box {
		distance = metres(q.centre, p)
		return distance, distance <= q.radius*q.unit
	}
	if metresNorth(p.lat, q.centre.lat) > q.height*q.unit/2 || metres(p, point{q.centre.lon, p.lat}) > q.width*q.unit/2 {
		return 0, false
	}
	return metres(q.centre, p), true
}

// cells are those that may hold what the search covers, in Redis's order: it shows where no other is asked for.
// Around a centre on the eastern or northern edge Redis misses some; here the cells around the last one on the map
// stand in.
func (q *geoQuery) cells() (list []cell) {
	height, width, reach := q.radius*q.unit, q.radius*q.unit, q.radius*q.unit
	if q.box {
		height, width = q.unit*(q.height/2), q.unit*(q.width/2)
		reach = math.Sqrt(float64(q.width/2*(q.width/2))+float64(q.height/2*(q.height/2))) * q.unit
	}
	steps := geoSteps
	if reach > 0 {
		steps = -1
		for r := reach; r < mercatorHalf; r *= 2 {
			steps++
		}
		if math.Abs(q.centre.lat) > 66 { // columns are narrow towards the poles
			steps--
			if math.Abs(q.centre.lat) > 80 {
				steps--
			}
		}
		steps = min(max(steps, 1), geoSteps)
	}
	middle := cellAt(q.centre, maxLatitude, steps)
	var bounds area
	if steps > 1 { // so nothing here reaches farther than a quarter of the way around
		up := degrees(height / earthRadius)
		widest := q.centre.lat + up
		if q.centre.lat < 0 {
			widest = q.centre.lat - up
		}
		across := degrees(width / earthRadius / cosine(radians(widest)))
		bounds = area{west: q.centre.lon - across, east: q.centre.lon + across, south: q.centre.lat - up, north: q.centre.lat + up}
		if middle.beside(0, 1).area().north < bounds.north || middle.beside(0, -1).area().south > bounds.south ||
			middle.beside(1, 0).area().east < bounds.east || middle.beside(-1, 0).area().west > bounds.west {
			steps--
			middle = cellAt(q.centre, maxLatitude, steps)
		}
	}
	if on := middle.onMap(); on != middle {
		list, middle = append(list, middle), on
	}
	inner := middle.area()
	for _, to := range [9]struct{ columns, rows int }{{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, 1}, {1, -1}, {-1, -1}} {
		if steps >= 2 && (to.rows < 0 && inner.south < bounds.south || to.rows > 0 && inner.north > bounds.north ||
			to.columns < 0 && inner.west < bounds.west || to.columns > 0 && inner.east > bounds.east) {
			continue
		}
		if next := middle.beside(to.columns, to.rows); !slices.Contains(list, next) { // with two columns, east is west
			list = append(list, next)
		}
	}
	return list
}

// finds returns what the search covers in z, in the order asked for, and at most as many.
func (q *geoQuery) finds(z *sortedSet) (list []find) {
	enough := func() bool { return q.any && int64(len(list)) >= q.count }
	for _, c := range q.cells() {
		low, high := c.scores()
		from, to := z.lowerBound(low), z.lowerBound(high)
		for cursor := z.seek(from); from < to && !enough(); from++ {
			e := cursor.entry()
			p := placeOf(e.score)
			if distance, ok := q.covers(p); ok {
				list = append(list, find{e, p, distance})
			}
			cursor.next()
		}
	}
	if q.order != 0 {
		slices.SortStableFunc(list, func(a, b find) int { return q.order * cmp.Compare(a.distance, b.distance) })
	}
	if q.count > 0 && int64(len(list)) > q.count {
		list = list[:q.count]
	}
	return list
}

func geosearch(c *call, form geoForm) error {
	z, err := c.sortedSet(c.args[1+form.source])
	if err != nil {
		return err
	}
	q, err := parseGeoQuery(c.cmd.Name, c.args, form, z)
	if err != nil {
		return err
	}
	var list []find
	if z != nil {
		list = q.finds(z)
	}
	if q.stores {
		if err := c.checkSizes(q.storeTo, 0); err != nil {
			return err
		}
		e := c.rerank(nil, nil, nil)
		for _, f := range list {
			score := f.score
			if q.storeDistance {
				score = f.distance / q.unit
			}
			e.put(f.member, score)
		}
		c.out.Int(e.replace(q.storeTo))
		return nil
	}
	parts := 1
	for _, with := range []bool{q.withDistance, q.withHash, q.withPoint} {
		if with {
			parts++
		}
	}
	c.out.Array(len(list))
	for _, f := range list {
		if parts > 1 {
			c.out.Array(parts)
		}
		c.out.Bulk(f.member)
		if q.withDistance {
			c.out.Bulk(fixed(f.distance/q.unit, 4))
		}
		if q.withHash {
			c.out.Int(int64(scoreBits(f.score)))
		}
		if q.withPoint {
			c.point(f.at)
		}
	}
	return nil
}
