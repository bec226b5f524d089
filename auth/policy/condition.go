package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// An operator compares a fact with the values that a policy gives. A negated operator is true exactly when
// its plain form is false for every value, which is why it is a flag and not another comparison.
type operator struct {
	compare comparison
	negated bool
}

type comparison uint8

const (
	stringEquals comparison = iota + 1
	stringEqualsIgnoreCase
	stringLike
	numericEquals
	numericLess
	numericLessEquals
	numericGreater
	numericGreaterEquals
	dateEquals
	dateLess
	dateLessEquals
	dateGreater
	dateGreaterEquals
	boolEquals
	binaryEquals
	ipWithin
	arnLike
	isNull
)

// operators are the names a policy may use, without qualifier and IfExists.
var operators = map[string]operator{
	"StringEquals":              {compare: stringEquals},
	"StringNotEquals":           {compare: stringEquals, negated: true},
	"StringEqualsIgnoreCase":    {compare: stringEqualsIgnoreCase},
	"StringNotEqualsIgnoreCase": {compare: stringEqualsIgnoreCase, negated: true},
	"StringLike":                {compare: stringLike},
	"StringNotLike":             {compare: stringLike, negated: true},
	"NumericEquals":             {compare: numericEquals},
	"NumericNotEquals":          {compare: numericEquals, negated: true},
	"NumericLessThan":           {compare: numericLess},
	"NumericLessThanEquals":     {compare: numericLessEquals},
	"NumericGreaterThan":        {compare: numericGreater},
	"NumericGreaterThanEquals":  {compare: numericGreaterEquals},
	"DateEquals":                {compare: dateEquals},
	"DateNotEquals":             {compare: dateEquals, negated: true},
	"DateLessThan":              {compare: dateLess},
	"DateLessThanEquals":        {compare: dateLessEquals},
	"DateGreaterThan":           {compare: dateGreater},
	"DateGreaterThanEquals":     {compare: dateGreaterEquals},
	"Bool":                      {compare: boolEquals},
	"BinaryEquals":              {compare: binaryEquals},
	"IpAddress":                 {compare: ipWithin},
	"NotIpAddress":              {compare: ipWithin, negated: true},
	"ArnEquals":                 {compare: arnLike},
	"ArnLike":                   {compare: arnLike},
	"ArnNotEquals":              {compare: arnLike, negated: true},
	"ArnNotLike":                {compare: arnLike, negated: true},
	"Null":                      {compare: isNull},
}

// fits reports whether c can compare keys of type t.
func (c comparison) fits(t keyType) bool {
	switch {
	case c == isNull:
		return true
	case c <= stringLike:
		return t == typeString || t == typeARN
	case c <= numericGreaterEquals:
		return t == typeNumeric
	case c <= dateGreaterEquals:
		return t == typeDate
	case c == boolEquals:
		return t == typeBool
	case c == binaryEquals:
		return t == typeString
	case c == ipWithin:
		return t == typeIP
	}
	return t == typeARN
}

// takesVariables reports whether ${…} may stand in a value for c.
func (c comparison) takesVariables() bool {
	return c <= stringLike || c == boolEquals || c == arnLike
}

// A quantifier says how many members of a list must satisfy the operator.
type quantifier uint8

const (
	single quantifier = iota
	forAllValues
	forAnyValue
)

// A condition is one key under one operator, with the values it is compared to.
type condition struct {
	operator
	quantifier
	ifExists bool
	key      keyRef
	values   []operand
}

// An operand is one value that a policy gives; which field counts is the comparison's business.
type operand struct {
	text   glob    // string, bool
	arn    [6]glob // arn; unused when any
	any    bool    // arn: "*"
	number float64
	when   instant
	within netip.Prefix
	plain  string // binary: the decoded bytes; null: "true" or "false"
}

// parseOperator reads a name such as "ForAllValues:StringLikeIfExists".
func parseOperator(name string) (op operator, q quantifier, ifExists bool, err error) {
	base := name
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		base, q = rest, forAllValues
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		base, q = rest, forAnyValue
	}
	base, ifExists = strings.CutSuffix(base, "IfExists")
	op, ok := operators[base]
	switch {
	case !ok:
		err = fmt.Errorf("%q is not a condition operator", name)
	case op.compare == isNull && (q != single || ifExists):
		err = errors.New("the operator Null takes neither ForAllValues, ForAnyValue nor IfExists")
	}
	return op, q, ifExists, err
}

// parseOperand compiles one value for c. A class other than "" says what is wrong with it.
func parseOperand(c comparison, text string, variables bool) (operand, Class, error) {
	if variables && !c.takesVariables() && strings.Contains(text, "${") {
		return operand{}, ClassVariable, errors.New("a variable may only stand in String, Arn and Bool values")
	}
	var o operand
	var err error
	if c == stringLike || c == arnLike {
		if err := checkPattern(text); err != nil {
			return o, ClassCondition, err
		}
	}
	switch {
	case c == arnLike:
		return parseArnOperand(text, variables)
	case c <= stringLike || c == boolEquals:
		items, err := parseItems(text, syntax{wildcards: c == stringLike, variables: variables})
		if err != nil {
			return o, ClassVariable, err
		}
		o.text = newGlob(items)
		if c == boolEquals && !o.text.variables && text != "true" && text != "false" {
			return o, ClassCondition, fmt.Errorf("%q is neither true nor false", text)
		}
	case c <= numericGreaterEquals:
		if o.number, err = parseNumber(text); err != nil {
			err = fmt.Errorf("%q is not an integer or decimal number below 2^53", text)
		}
	case c <= dateGreaterEquals:
		if o.when, err = parseDate(text); err != nil {
			err = fmt.Errorf("%q is neither an ISO 8601 date with a time zone nor a number of seconds", text)
		}
	case c == binaryEquals:
		var raw []byte
		if raw, err = base64.StdEncoding.DecodeString(text); err != nil {
			err = fmt.Errorf("%q is not base64", text)
		}
		o.plain = string(raw)
	case c == ipWithin:
		if o.within, err = parsePrefix(text); err != nil {
			err = fmt.Errorf("%q is neither an IP address nor a CIDR range", text)
		}
	case c == isNull:
		if text != "true" && text != "false" {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
		o.plain = text
	}
	if err != nil {
		return o, ClassCondition, err
	}
	return o, "", nil
}

func parseArnOperand(text string, variables bool) (operand, Class, error) {
	if text == "*" {
		return operand{any: true}, "", nil
	}
	items, err := parseItems(text, syntax{wildcards: true, variables: variables})
	if err != nil {
		return operand{}, ClassVariable, err
	}
	parts := splitItems(items, ':', 6)
	if len(parts) < 6 {
		return operand{}, ClassCondition, fmt.Errorf("%q has fewer than the six parts of %s", text, arnForm)
	}
	var o operand
	for i, part := range parts {
		o.arn[i] = newGlob(part)
	}
	return o, "", nil
}

// parsePrefix reads an address or a range. An address alone is a range of one, in both families; an IPv4
// address mapped into IPv6 is the IPv4 address.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errNotAddr
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, errNotAddr
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// holds reports whether the request satisfies c. An error means that the fact is not of the key's type.
func (c *condition) holds(e *evaluation) (bool, error) {
	v := e.value(c.key)
	if c.compare == isNull {
		// An empty list is no value either: otherwise {"Null": {"jwt:scope": "false"}} would not guard an
		// Allow with ForAllValues, which an empty list satisfies.
		null := "false"
		if v.kind == kindNone || v.kind == kindList && len(v.list) == 0 {
			null = "true"
		}
		for i := range c.values {
			if c.values[i].plain == null {
				return true, nil
			}
		}
		return false, nil
	}
	if v.kind == kindNone {
		switch {
		case c.ifExists, c.quantifier == forAllValues:
			return true, nil
		case c.quantifier == forAnyValue:
			return false, nil
		}
		return c.negated, nil
	}
	if c.quantifier == single {
		return c.member(e, &v)
	}
	if v.kind != kindList {
		return c.member(e, &v) // a list of one
	}
	all, some := true, false
	for _, s := range v.list {
		m := Text(s)
		ok, err := c.member(e, &m)
		if err != nil {
			return false, err
		}
		all, some = all && ok, some || ok
	}
	if c.quantifier == forAllValues {
		return all, nil
	}
	return some, nil
}

// member applies the operator, with its negation, to one value.
func (c *condition) member(e *evaluation, v *Value) (bool, error) {
	var err error
	var text string
	var number float64
	var when instant
	var addr netip.Addr
	var part [6]string
	switch {
	case c.compare <= stringLike:
		text, err = v.asText()
	case c.compare <= numericGreaterEquals:
		number, err = v.asNumber()
	case c.compare <= dateGreaterEquals:
		when, err = v.asDate()
	case c.compare == boolEquals:
		text, err = v.asBool()
	case c.compare == binaryEquals:
		if text, err = v.asText(); err == nil {
			var raw []byte
			if raw, err = base64.StdEncoding.DecodeString(text); err != nil {
				err = errNotBase64
			}
			text = string(raw)
		}
	case c.compare == ipWithin:
		addr, err = v.asAddr()
	case c.compare == arnLike:
		if text, err = v.asText(); err == nil {
			if part, err = splitARN(text); err != nil {
				err = errNotName
			}
		}
	}
	if err != nil {
		return false, err
	}
	for i := range c.values {
		o := &c.values[i]
		var ok bool
		switch c.compare {
		case stringEquals, stringLike, boolEquals:
			ok = o.text.match(e, text)
		case stringEqualsIgnoreCase:
			ok = o.text.equalFold(e, text)
		case numericEquals:
			ok = number == o.number
		case numericLess:
			ok = number < o.number
		case numericLessEquals:
			ok = number <= o.number
		case numericGreater:
			ok = number > o.number
		case numericGreaterEquals:
			ok = number >= o.number
		case dateEquals:
			ok = when.compare(o.when) == 0
		case dateLess:
			ok = when.compare(o.when) < 0
		case dateLessEquals:
			ok = when.compare(o.when) <= 0
		case dateGreater:
			ok = when.compare(o.when) > 0
		case dateGreaterEquals:
			ok = when.compare(o.when) >= 0
		case binaryEquals:
			ok = text == o.plain
		case ipWithin:
			ok = o.within.Contains(addr)
		case arnLike:
			ok = true
			for j := 0; j < len(part) && ok && !o.any; j++ {
				ok = o.arn[j].match(e, part[j])
			}
		}
		if ok {
			return !c.negated, nil
		}
	}
	return c.negated, nil
}

// equalFold reports whether g, which has no wildcards, is text in any letter case.
func (g *glob) equalFold(e *evaluation, text string) bool {
	if want, ok := g.onlyText(); ok {
		return strings.EqualFold(want, text)
	}
	// Letters may change their length with their case, so the parts are not compared one by one.
	var want strings.Builder
	for i := range g.items {
		part, ok := e.itemText(&g.items[i])
		if !ok {
			return false
		}
		want.WriteString(part)
	}
	return strings.EqualFold(want.String(), text)
}
