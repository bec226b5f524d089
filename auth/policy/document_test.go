package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// oneStatement is a document of one statement that allows cache:Get on every key of acme, with elements
// added or, with a nil-like empty text, taken out.
func oneStatement(changes ...string) string {
	elements := map[string]string{
		"Effect":   `"Allow"`,
		"Action":   `"cache:Get"`,
		"Resource": `"arn:cache:cache:eu1:acme:cache/sessions/key/*"`,
	}
	for i := 0; i < len(changes); i += 2 {
		elements[changes[i]] = changes[i+1]
	}
	var parts []string
	for name, value := range elements {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", name, value))
		}
	}
	slices.Sort(parts)
	return `{"Version":"2012-10-17","Statement":[{` + strings.Join(parts, ",") + `}]}`
}

func condition1(op, key, value string) string {
	return oneStatement("Condition", fmt.Sprintf(`{%q:{%q:%s}}`, op, key, value))
}

func TestParse(t *testing.T) {
	arn := "arn:cache:cache:eu1:acme:"
	for _, c := range []struct {
		name string
		text string
		kind Kind // identity, where none is given
		want Class
		at   string // what Where must be
	}{
		{name: "smallest", text: oneStatement()},
		{name: "one statement without a list", text: `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`},
		{name: "white space around", text: " \n" + oneStatement() + "\n "},
		{name: "empty text", text: "", want: ClassJSON},
		{name: "not JSON", text: "Allow all", want: ClassJSON},
		{name: "a list", text: "[]", want: ClassJSON},
		{name: "null", text: "null", want: ClassJSON},
		{name: "not UTF-8", text: "{\"Version\":\"\xff\"}", want: ClassJSON},
		{name: "second document", text: oneStatement() + "{}", want: ClassTrailingData},
		{name: "word behind", text: oneStatement() + "x", want: ClassTrailingData},

		{name: "version as a number", text: `{"Version":2012,"Statement":[]}`, want: ClassVersion, at: "Version"},
		{name: "version null", text: `{"Version":null,"Statement":[]}`, want: ClassVersion},
		{name: "no statement", text: `{"Version":"2012-10-17"}`, want: ClassStatement, at: "Statement"},
		{name: "statement is a word", text: `{"Statement":"Allow"}`, want: ClassStatement},
		{name: "statement in the list is a word", text: `{"Statement":["Allow"]}`, want: ClassStatement, at: "Statement[0]"},
		{name: "id is a number", text: `{"Id":1,"Statement":[]}`, kind: KindResource, want: ClassID},

		{name: "sid", text: oneStatement("Sid", `"Own1"`)},
		{name: "sid with a blank", text: oneStatement("Sid", `"own keys"`), want: ClassSid, at: "Statement[0].Sid"},
		{name: "sid empty", text: oneStatement("Sid", `""`), want: ClassSid},
		{name: "sid twice", want: ClassSid, at: "Statement[1].Sid", text: `{"Statement":[` +
			`{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"},{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"}]}`},
		{name: "effect null", text: oneStatement("Effect", `null`), want: ClassEffect, at: "Statement[0].Effect"},
		{name: "effect list", text: oneStatement("Effect", `["Allow"]`), want: ClassEffect},
		{name: "unknown element", text: oneStatement("Actions", `"*"`), want: ClassUnknownField, at: "Statement[0].Actions"},
		{name: "element twice, deep", want: ClassDuplicateKey,
			text: oneStatement("Condition", `{"Bool":{"cache:SecureTransport":"true","cache:SecureTransport":"false"}}`)},

		{name: "neither action", text: oneStatement("Action", ""), want: ClassAction},
		{name: "action is a number", text: oneStatement("Action", "1"), want: ClassAction, at: "Statement[0].Action"},
		{name: "a number among actions", text: oneStatement("Action", `["cache:Get",1]`), want: ClassAction},
		{name: "action of another service", text: oneStatement("Action", `"s3:GetObject"`), want: ClassAction},
		{name: "wildcard in the service", text: oneStatement("Action", `"ca*:Get"`), want: ClassAction},
		{name: "wildcard over the colon", text: oneStatement("Action", `"cache*"`), want: ClassAction},
		{name: "empty action", text: oneStatement("Action", `""`), want: ClassAction},
		{name: "NotAction", text: oneStatement("Action", "", "NotAction", `["iam:*","kms:*"]`)},

		{name: "a bare name", text: oneStatement("Resource", `"sessions/key/*"`), want: ClassResource, at: "Statement[0].Resource"},
		{name: "five parts", text: oneStatement("Resource", `"arn:cache:cache:eu1:cache/x"`), want: ClassResource},
		{name: "another partition", text: oneStatement("Resource", `"arn:aws:cache:eu1:acme:cache/x"`), want: ClassResource},
		{name: "wildcard in the service part", text: oneStatement("Resource", `"arn:cache:*:eu1:acme:cache/x"`), want: ClassResource},
		{name: "unknown service", text: oneStatement("Resource", `"arn:cache:cahce:eu1:acme:cache/x"`), want: ClassResource},
		{name: "no tenant", text: oneStatement("Resource", `"arn:cache:cache:eu1::cache/x"`), want: ClassResource},
		{name: "no path", text: oneStatement("Resource", `"`+arn+`"`), want: ClassResource},
		{name: "misspelt path", text: oneStatement("Resource", `"`+arn+`caches/x/key/*"`), want: ClassResource},
		{name: "misspelt kind", text: oneStatement("Resource", `"`+arn+`cache/x/keys/*"`), want: ClassResource},
		{name: "a role is of another service", text: oneStatement("Resource", `"`+arn+`role/app"`), want: ClassResource},
		{name: "a role", text: oneStatement("Resource", `"arn:cache:iam::acme:role/app"`)},
		{name: "the root", text: oneStatement("Resource", `"arn:cache:iam::acme:root"`)},
		{name: "longest pattern", text: oneStatement("Resource", `"`+arn+`cache/x/key/`+strings.Repeat("x", MaxPattern-len(arn+"cache/x/key/"))+`"`)},
		{name: "pattern too long", want: ClassResource,
			text: oneStatement("Resource", `"`+arn+`cache/x/key/`+strings.Repeat("x", MaxPattern-len(arn+"cache/x/key/")+1)+`"`)},
		{name: "most stars", text: oneStatement("Resource", `"`+arn+`cache/x/key/`+strings.Repeat("*a", MaxStars)+`"`)},
		{name: "too many stars", text: oneStatement("Resource", `"`+arn+`cache/x/key/`+strings.Repeat("*a", MaxStars+1)+`"`), want: ClassResource},
		{name: "too many stars in an action", text: oneStatement("Action", `"cache:G`+strings.Repeat("*", MaxStars+1)+`"`), want: ClassAction},
		{name: "too many stars in a condition", text: condition1("StringLike", "jwt:sub", `"`+strings.Repeat("*", MaxStars+1)+`"`), want: ClassCondition},
		{name: "all of a tenant", text: oneStatement("Resource", `"`+arn+`*"`)},
		{name: "all in a cache", text: oneStatement("Resource", `"`+arn+`cache/x/*"`)},
		{name: "a key with colons and slashes", text: oneStatement("Resource", `"`+arn+`cache/x/key/a:b/c"`)},
		{name: "wildcard in the kind", text: oneStatement("Resource", `"`+arn+`cache/x/*/a"`)},

		{name: "variable", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:claim/dept}"`)},
		{name: "variable with a default", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:sub, 'a}b'}/*"`)},
		{name: "default without quotes", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:sub, none}"`), want: ClassVariable},
		{name: "default never closed", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:sub, 'none}"`), want: ClassVariable},
		{name: "no name", text: oneStatement("Resource", `"`+arn+`cache/x/key/${}"`), want: ClassVariable},
		{name: "variable of a list", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:groups}"`), want: ClassVariable},
		{name: "variable the client chooses", text: oneStatement("Resource", `"`+arn+`cache/x/key/${cache:UserAgent}"`), want: ClassVariable},
		{name: "a family without a name", text: oneStatement("Resource", `"`+arn+`cache/x/key/${jwt:claim/}"`), want: ClassVariable},
		{name: "variable in the service", text: oneStatement("Resource", `"arn:cache:${jwt:sub}:eu1:acme:cache/x"`), want: ClassResource},
		{name: "the language of 2008 has no variables",
			text: `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"` + arn + `cache/x/key/${"}}`},

		{name: "principal of a resource policy", text: oneStatement("Principal", `{"Cache":["acme","arn:cache:iam::globex:role/app","*"]}`), kind: KindResource},
		{name: "no principal", text: oneStatement(), kind: KindResource, want: ClassPrincipal, at: "Statement[0].Principal"},
		{name: "both principals", text: oneStatement("Principal", `"*"`, "NotPrincipal", `{"Cache":"acme"}`), kind: KindResource, want: ClassPrincipal},
		{name: "principal is a tenant, bare", text: oneStatement("Principal", `"acme"`), kind: KindResource, want: ClassPrincipal},
		{name: "principal of another system", text: oneStatement("Principal", `{"AWS":"acme"}`), kind: KindResource, want: ClassPrincipal},
		{name: "principal with a wildcard", text: oneStatement("Principal", `{"Cache":"arn:cache:iam::acme:key/*"}`), kind: KindResource, want: ClassPrincipal},
		{name: "principal is a cache", text: oneStatement("Principal", `{"Cache":"`+arn+`cache/x"}`), kind: KindResource, want: ClassPrincipal},
		{name: "principal without names", text: oneStatement("Principal", `{"Cache":[]}`), kind: KindResource, want: ClassPrincipal},
		{name: "nobody is spared", text: oneStatement("Effect", `"Deny"`, "NotPrincipal", `"*"`), kind: KindResource, want: ClassPrincipal},
		{name: "principal in a boundary", text: oneStatement("Principal", `"*"`), kind: KindBoundary, want: ClassPrincipal},
		{name: "principal in a guardrail", text: oneStatement("NotPrincipal", `{"Cache":"acme"}`), kind: KindGuardrail, want: ClassPrincipal},

		{name: "empty condition", text: oneStatement("Condition", `{}`), want: ClassCondition, at: "Statement[0].Condition"},
		{name: "condition is a list", text: oneStatement("Condition", `[]`), want: ClassCondition},
		{name: "no values", text: condition1("StringEquals", "cache:Protocol", `[]`), want: ClassCondition},
		{name: "null among values", text: condition1("StringEquals", "cache:Protocol", `["a",null]`), want: ClassCondition},
		{name: "key twice in another case", want: ClassDuplicateKey, at: "Statement[0].Condition.Bool.cache:securetransport",
			text: oneStatement("Condition", `{"Bool":{"cache:SecureTransport":"true","cache:securetransport":"false"}}`)},
		{name: "NullIfExists", text: condition1("NullIfExists", "jwt:sub", `"true"`), want: ClassCondition},
		{name: "operators mind their case", text: condition1("stringEquals", "jwt:sub", `"a"`), want: ClassCondition},
		{name: "unknown qualifier", text: condition1("ForSomeValues:StringEquals", "jwt:scope", `"a"`), want: ClassCondition},
		{name: "list without a qualifier", text: condition1("StringEquals", "jwt:scope", `"a"`), want: ClassCondition},
		{name: "number", text: condition1("NumericEquals", "cache:KeyCount", `[1,"2","-3.5"]`)},
		{name: "not a number", text: condition1("NumericEquals", "cache:KeyCount", `"one"`), want: ClassCondition},
		{name: "number with an exponent", text: condition1("NumericEquals", "cache:KeyCount", `1e3`), want: ClassCondition},
		{name: "number beyond what is exact", text: condition1("NumericEquals", "cache:KeyCount", `9007199254740993`), want: ClassCondition},
		{name: "not a date", text: condition1("DateEquals", "cache:CurrentTime", `"tomorrow"`), want: ClassCondition},
		{name: "date that does not exist", text: condition1("DateEquals", "cache:CurrentTime", `"2026-02-30"`), want: ClassCondition},
		{name: "time without a zone", text: condition1("DateEquals", "cache:CurrentTime", `"2026-02-03T04:05:06"`), want: ClassCondition},
		{name: "not an address", text: condition1("IpAddress", "cache:SourceIp", `"300.0.0.1"`), want: ClassCondition},
		{name: "prefix too long", text: condition1("IpAddress", "cache:SourceIp", `"10.0.0.0/33"`), want: ClassCondition},
		{name: "not base64", text: condition1("BinaryEquals", "jwt:sub", `"!"`), want: ClassCondition},
		{name: "text compared with an address", text: condition1("StringEquals", "cache:SourceIp", `"10.0.0.1"`), want: ClassCondition},
		{name: "not a resource name", text: condition1("ArnLike", "cache:SourceArn", `"acme"`), want: ClassCondition},
		{name: "variable in a resource name", text: condition1("ArnLike", "cache:SourceArn", `"arn:cache:iam::${cache:PrincipalTenant}:role/*"`)},
		{name: "variable in a boolean", text: condition1("Bool", "cache:SecureTransport", `"${cache:PrincipalTag/tls}"`)},
		{name: "variable in a date", text: condition1("DateLessThan", "cache:CurrentTime", `"${cache:TokenIssueTime}"`), want: ClassVariable},
		{name: "variable in an address", text: condition1("IpAddress", "cache:SourceIp", `"${cache:SourceIp}"`), want: ClassVariable},
		{name: "unguarded ForAllValues in a Deny", text: oneStatement("Effect", `"Deny"`, "Condition", `{"ForAllValues:StringEquals":{"jwt:scope":"a"}}`)},
		{name: "guard of another key", want: ClassCondition,
			text: oneStatement("Condition", `{"ForAllValues:StringEquals":{"jwt:scope":"a"},"Null":{"jwt:aud":"false"}}`)},
		{name: "guard that guards nothing", want: ClassCondition,
			text: oneStatement("Condition", `{"ForAllValues:StringEquals":{"jwt:scope":"a"},"Null":{"jwt:scope":["true","false"]}}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.kind == 0 {
				c.kind = KindIdentity
			}
			_, err := Parse("p", []byte(c.text), c.kind)
			var refusal *Error
			switch {
			case c.want == "":
				if err != nil {
					t.Fatal(err)
				}
			case !errors.As(err, &refusal) || refusal.Class != c.want:
				t.Fatalf("got %v, want class %s", err, c.want)
			case c.at != "" && refusal.Where != c.at:
				t.Fatalf("got %v, want it at %s", err, c.at)
			}
		})
	}
}

// The limits hold to the character: white space between tokens is free, inside a string it is not, and a
// character of several bytes is one.
func TestParseLimits(t *testing.T) {
	sized := func(n int, filler string) string { // in a value that is no pattern, which may be long
		empty := condition1("StringEquals", "cache:username", `"key/"`)
		return strings.Replace(empty, "key/", "key/"+strings.Repeat(filler, n-len(empty)), 1)
	}
	for _, c := range []struct {
		name string
		text string
		want Class
	}{
		{name: "at the limit", text: sized(MaxCharacters, "x")},
		{name: "one beyond", text: sized(MaxCharacters+1, "x"), want: ClassTooLarge},
		{name: "é is one character", text: sized(MaxCharacters, "é")},
		{name: "blanks in a string count", text: sized(MaxCharacters+1, " "), want: ClassTooLarge},
		{name: "blanks between tokens do not", text: sized(MaxCharacters, "x") + strings.Repeat(" \n", 1000)},
		{name: "an escaped quote does not end a string", text: strings.Replace(sized(MaxCharacters+1, "x"), "xxxxxx", `\"    `, 1), want: ClassTooLarge},
		{name: "too many blanks", text: oneStatement() + strings.Repeat(" ", MaxBytes), want: ClassTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("p", []byte(c.text), KindIdentity)
			var refusal *Error
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &refusal) || refusal.Class != c.want) {
				t.Fatalf("got %.200v, want class %q", err, c.want)
			}
		})
	}
	statements := strings.TrimSuffix(strings.Repeat(`{"Effect":"Deny","Action":"*","Resource":"*"},`, MaxTokenStatements+1), ",")
	if _, err := Parse("p", []byte(`{"Statement":[`+statements+`]}`), KindIdentity); err != nil {
		t.Error("the limit of statements is for tokens only: ", err)
	}
}

// FuzzPolicyParse: any bytes are a document or an *Error of a class, and what may be written may be loaded.
func FuzzPolicyParse(f *testing.F) {
	f.Add([]byte(oneStatement()), uint8(KindIdentity))
	f.Add([]byte(oneStatement("Principal", `{"Cache":["acme","*"]}`, "Sid", `"A"`)), uint8(KindResource))
	f.Add([]byte(condition1("ForAllValues:StringLike", "jwt:scope", `["a*","${jwt:sub, 'x'}"]`)), uint8(KindSession))
	f.Add([]byte(condition1("DateLessThan", "cache:CurrentTime", `["2026-01-01T00:00:00Z",17]`)), uint8(KindBoundary))
	f.Add([]byte(condition1("NotIpAddress", "cache:SourceIp", `["::ffff:10.0.0.0/100","10.0.0.0/8"]`)), uint8(KindGuardrail))
	f.Fuzz(func(t *testing.T, text []byte, kind uint8) {
		d, err := Parse("p", text, Kind(kind))
		if err != nil {
			if refusal := new(*Error); !errors.As(err, refusal) || (*refusal).Class == "" || (*refusal).What == "" {
				t.Fatalf("not a full error: %#v", err)
			}
			return
		}
		if loaded := Load("p", text, Kind(kind)); loaded.Err() != nil || len(loaded.statements) != len(d.statements) {
			t.Fatal("may be written but not loaded: ", loaded.Err())
		}
	})
}
