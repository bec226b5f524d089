package gateway

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/tenants"
)

// facts answer what policy conditions ask about a request beyond who asks: auth.Context knows that. Nothing is computed that no condition asks for.
type facts struct {
	caller *Caller
	cache  *tenants.Cache    // nil for what is not about a cache, or one that does not exist
	call   *engine.Call      // nil for what is no command
	tags   map[string]string // that a request would give a cache; nil when it gives none
	now    time.Time
}

// Lookup implements policy.Context. A fact that the request does not have is missing, never empty.
func (f *facts) Lookup(key policy.Key, name string) policy.Value {
	switch key {
	case policy.KeySourceIP:
		if f.caller.Source.IsValid() {
			return policy.Addr(f.caller.Source)
		}
	case policy.KeySecureTransport:
		return policy.Bool(f.caller.Secure)
	case policy.KeyTLSVersion:
		switch f.caller.TLSVersion {
		case tls.VersionTLS12:
			return policy.Number(1.2)
		case tls.VersionTLS13:
			return policy.Number(1.3)
		}
	case policy.KeyProtocol:
		return policy.Text(f.caller.Protocol)
	case policy.KeyUserAgent:
		if f.caller.UserAgent != "" {
			return policy.Text(f.caller.UserAgent)
		}
	case policy.KeyResourceTag:
		if f.cache != nil {
			return tagged(f.cache.Tags, name)
		}
	case policy.KeyRequestTag:
		return tagged(f.tags, name)
	case policy.KeyTagKeys:
		if f.tags != nil {
			return policy.List(slices.Sorted(maps.Keys(f.tags)))
		}
	case policy.KeyKeyPrefix, policy.KeyValueSize, policy.KeyTTLSeconds, policy.KeyMaxItems, policy.KeyKeys, policy.KeyKeyCount, policy.KeyCommand:
		if f.call != nil {
			return f.ofCall(key)
		}
	}
	return policy.Value{}
}

func (f *facts) ofCall(key policy.Key) policy.Value {
	c := f.call.Command
	switch key {
	case policy.KeyCommand:
		return policy.Text(nameOf(c, f.call.Args))
	case policy.KeyKeys, policy.KeyKeyCount:
		keys := c.AppendKeys(nil, f.call.Args)
		if key == policy.KeyKeyCount {
			return policy.Number(float64(len(keys)))
		}
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = string(k)
		}
		return policy.List(names)
	}
	facts := c.FactsOf(f.call.Args, f.now.UnixMilli())
	switch {
	case key == policy.KeyValueSize && facts.ValueSize >= 0:
		return policy.Number(float64(facts.ValueSize))
	case key == policy.KeyTTLSeconds && facts.TTL >= 0:
		return policy.Number(float64(facts.TTL) / 1000)
	case key == policy.KeyTTLSeconds && facts.ValueSize >= 0 && f.cache != nil && f.cache.DefaultTTLMs > 0:
		return policy.Number(float64(f.cache.DefaultTTLMs) / 1000)
	case key == policy.KeyMaxItems && facts.MaxItems >= 0:
		return policy.Number(float64(facts.MaxItems))
	case key == policy.KeyKeyPrefix && facts.Prefix != nil:
		return policy.Text(string(facts.Prefix))
	}
	return policy.Value{}
}

// containers are the commands that look for their subcommands themselves.
var containers = map[string]bool{"FUNCTION": true, "MEMORY": true, "OBJECT": true, "SCRIPT": true, "XGROUP": true, "XINFO": true}

// nameOf is the name of a command as policies know it: with its subcommand, if it has one.
func nameOf(c *engine.Command, args [][]byte) string {
	if !containers[c.Name] || len(args) < 2 {
		return c.Name
	}
	return c.Name + "|" + strings.ToUpper(string(args[1]))
}

// tagged is the value of a tag. Policies do not mind the letter case of its key, so of two keys that differ in
// nothing else neither can be meant for certain: both are given, and the evaluator denies.
func tagged(tags map[string]string, name string) policy.Value {
	var values []string
	for k, v := range tags {
		if foldEqual(k, name) {
			values = append(values, v)
		}
	}
	switch len(values) {
	case 0:
		return policy.Value{}
	case 1:
		return policy.Text(values[0])
	}
	return policy.List(values)
}

// foldEqual compares a tag's key with a condition's, which the policy language has lowered.
func foldEqual(tag, lowered string) bool {
	if len(tag) != len(lowered) {
		return false
	}
	for i := range len(tag) {
		c := tag[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lowered[i] {
			return false
		}
	}
	return true
}
