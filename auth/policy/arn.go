package policy

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// The grammar of resource names:
//
//	arn:cache:<service>:<region>:<tenant>:<path>
//
// The path is made of slots with a slash between them. Its first slot says how many there are at most, and
// the last of them may hold anything, also slashes and colons: a key "a/b:c" is one slot.
//
// shapes are the forms of a path, by service; <x> stands for a name.
var shapes = map[string][]string{
	"cache": {
		"cache/<cache>",
		"cache/<cache>/key/<key>",
		"cache/<cache>/leaderboard/<name>",
		"cache/<cache>/channel/<channel>",
		"cache/<cache>/script/<sha>",
		"snapshot/<cache>/<id>",
	},
	"iam": {
		"key/<id>",
		"role/<name>",
		"session/<role>/<name>",
		"policy/<name>",
		"issuer/<name>",
		"root",
	},
	"admin": {
		"node/<id>",
		"partition/<id>",
		"tenant/<id>",
	},
}

// Shapes lists the forms that a resource name's path may have, for each service.
func Shapes() map[string][]string {
	all := make(map[string][]string, len(shapes))
	for service, forms := range shapes {
		all[service] = append([]string(nil), forms...)
	}
	return all
}

// SystemTenant is the reserved tenant whose principals are the operators.
const SystemTenant = "system"

// maxSlots bounds the slots of a path: cache/<cache>/key/<key>.
const maxSlots = 4

// slotLimit is how many slots a path has at most, by its first one.
func slotLimit(first string) int {
	switch first {
	case "key", "role", "policy", "issuer", "node", "partition", "tenant":
		return 2
	case "session", "snapshot":
		return 3
	}
	return maxSlots
}

// A Resource is what a request acts on, as the parts of its name. Copying one is cheap and allocates
// nothing; make it with NewResource, NewItem or ParseARN.
type Resource struct {
	service, region, tenant string
	slots                   [maxSlots]string
	n                       int // how many slots are used; 0 means that the name is malformed
}

// NewResource names a resource by its parts; slots are the path's, such as "cache", "sessions". One to four
// slots are a resource; a request on anything else is an error.
func NewResource(service, region, tenant string, slots ...string) Resource {
	r := Resource{service: service, region: region, tenant: tenant}
	if len(slots) <= maxSlots {
		r.n = copy(r.slots[:], slots)
	}
	return r
}

// NewItem names something inside a cache: kind is "key", "leaderboard", "channel" or "script". The Resource
// looks at name without copying it, so name must not change before the decision is made.
func NewItem(region, tenant, cache, kind string, name []byte) Resource {
	return Resource{
		service: "cache", region: region, tenant: tenant,
		slots: [maxSlots]string{"cache", cache, kind, unsafe.String(unsafe.SliceData(name), len(name))},
		n:     maxSlots,
	}
}

// Tenant is the tenant that owns the resource.
func (r *Resource) Tenant() string { return r.tenant }

// String is the full name. Bytes that are not UTF-8 stand as %XX.
func (r *Resource) String() string {
	return printable("arn:cache:" + r.service + ":" + r.region + ":" + r.tenant + ":" + r.path())
}

func (r *Resource) path() string { return strings.Join(r.slots[:r.n], "/") }

// ParseARN reads a full resource name.
func ParseARN(name string) (Resource, error) {
	part, err := splitARN(name)
	if err != nil {
		return Resource{}, err
	}
	if part[2] == "" || part[4] == "" || part[5] == "" {
		return Resource{}, errors.New("a resource name needs a service, a tenant and a path: " + arnForm)
	}
	r := Resource{service: part[2], region: part[3], tenant: part[4]}
	first, _, _ := strings.Cut(part[5], "/")
	limit, rest, more := slotLimit(first), part[5], true
	for more {
		if r.n == limit-1 {
			r.slots[r.n], more = rest, false
		} else {
			r.slots[r.n], rest, more = strings.Cut(rest, "/")
		}
		r.n++
	}
	return r, nil
}

const arnForm = "arn:cache:<service>:<region>:<tenant>:<resource>"

// splitARN cuts a name at its first five colons.
func splitARN(name string) (part [6]string, err error) {
	rest, more := name, true
	for i := 0; i < 5; i++ {
		if part[i], rest, more = strings.Cut(rest, ":"); !more {
			return part, errNotARN
		}
	}
	part[5] = rest
	if part[0] != "arn" || part[1] != "cache" {
		return part, errNotARN
	}
	return part, nil
}

var errNotARN = errors.New("not a name of the form " + arnForm)

// isTenantName reports whether s is [a-z0-9][a-z0-9-]{2,62}.
func isTenantName(s string) bool {
	if len(s) < 3 || len(s) > 63 || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// A resourcePattern is one value of Resource or NotResource.
//
// Strict mode compares slot by slot, so that cache/*/key/public/* cannot reach the key
// "private/key/public/x" of some cache. A pattern covers a path of as many slots as it has itself; only when
// its last slot is a bare * does it cover longer paths as well: cache/sessions/* is all that is in a cache.
// AWS mode compares the path as one string, as the documents of AWS say.
type resourcePattern struct {
	everything            bool // "*"
	service               string
	region, tenant, whole glob
	slots                 []glob
	openEnd               bool // the last slot is a bare *
}

// parseResource compiles a pattern. A class other than "" says what is wrong with it.
func parseResource(text string, variables bool) (resourcePattern, Class, error) {
	if text == "*" {
		return resourcePattern{everything: true}, "", nil
	}
	if err := checkPattern(text); err != nil {
		return resourcePattern{}, ClassResource, err
	}
	part, err := splitARN(text)
	if err != nil {
		return resourcePattern{}, ClassResource, err
	}
	if variables && strings.Contains(strings.Join(part[:5], ":"), "${") {
		return resourcePattern{}, ClassResource, errors.New("a variable may only stand behind the fifth colon")
	}
	if _, known := shapes[part[2]]; !known {
		return resourcePattern{}, ClassResource, fmt.Errorf("service %q is none of cache, iam, admin; it takes no wildcards", part[2])
	}
	if part[4] == "" || part[5] == "" {
		return resourcePattern{}, ClassResource, errors.New("the tenant and the path behind it must not be empty")
	}
	items, err := parseItems(part[5], syntax{wildcards: true, variables: variables})
	if err != nil {
		return resourcePattern{}, ClassVariable, err
	}
	p := resourcePattern{
		service: part[2],
		region:  literalGlob(part[3]),
		tenant:  literalGlob(part[4]),
		whole:   newGlob(items),
	}
	first := newGlob(splitItems(items, '/', 2)[0])
	limit := maxSlots
	if t, ok := first.onlyText(); ok {
		limit = slotLimit(t)
	}
	for _, slot := range splitItems(items, '/', limit) {
		p.slots = append(p.slots, newGlob(slot))
	}
	p.openEnd = p.slots[len(p.slots)-1].bareStar()
	return p, "", nil
}

// possible reports whether some resource of the grammar could be covered. A pattern for which there is
// none is a typing error, and the worse one in a Deny, which would never fire.
func (p *resourcePattern) possible() bool {
	if p.everything {
		return true
	}
	for _, shape := range shapes[p.service] {
		slots := strings.Split(shape, "/")
		if !p.sameLength(len(slots)) {
			continue
		}
		fits := true
		for i := range p.slots {
			if slots[i][0] != '<' && !p.slots[i].variables && !p.slots[i].match(nil, slots[i]) {
				fits = false
			}
		}
		if fits {
			return true
		}
	}
	return false
}

func (p *resourcePattern) sameLength(n int) bool {
	return n == len(p.slots) || p.openEnd && n > len(p.slots)
}

// match reports whether p covers the request's resource.
func (p *resourcePattern) match(e *evaluation) bool {
	if p.everything {
		return true
	}
	r := &e.req.Resource
	if p.service != r.service || !p.tenant.match(e, r.tenant) || !p.region.match(e, r.region) {
		return false
	}
	if e.mode == ModeAWS {
		return p.whole.match(e, e.path)
	}
	if !p.sameLength(r.n) {
		return false
	}
	for i := range p.slots {
		text := r.slots[i]
		if i == maxSlots-1 {
			text = e.item
		}
		if !p.slots[i].match(e, text) {
			return false
		}
	}
	return true
}

// mayFail reports whether matching may take steps, of which there are maxSteps: whether there is a run between two stars,
// which has to be sought.
func (p *resourcePattern) mayFail() bool {
	return p.whole.tail > p.whole.head || p.region.tail > p.region.head || p.tenant.tail > p.tenant.head
}

// matchAll reports whether p covers the request's resource whatever is in the last of four slots, in strict mode.
func (p *resourcePattern) matchAll(e *evaluation) bool {
	if p.everything {
		return true
	}
	if p.whole.variables || len(p.slots) == maxSlots && !p.openEnd {
		return false
	}
	return p.match(e)
}
