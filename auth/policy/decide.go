package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Policies are the documents that apply to a principal and, where it has a policy, to the cache it asks
// about. Each may be shared by many sets.
type Policies struct {
	Identity   []*Document // a union: one Allow is enough
	Boundary   *Document   // nil when there is none
	Session    []*Document // each must allow: a token made by a token is held by both
	Resource   *Document   // nil when there is none
	Guardrails []*Document // each must allow
}

// A Set is compiled policies. It does not change, so it may be used by any number of goroutines.
//
//	S1: rules with Deny stand before those with Allow
//	S2: rule.group is below 2 + len(limits), and so below 64
type Set struct {
	mode   Mode
	rules  []rule
	limits []limit
	err    error
}

// A rule is a statement, with the document that it comes from and the group whose Allow it gives.
type rule struct {
	*statement
	doc   *Document
	group uint8
}

// The groups: the union of the identity documents, the resource document, and each limiting document alone.
const (
	groupIdentity = iota
	groupResource
	groupLimits // the first of them
)

// A limit is a document that must allow as well.
type limit struct {
	doc    *Document
	reason Reason // given when it does not
}

// Compile joins documents into a Set. It is cheap, as the statements are compiled already. If a document is
// broken or of the wrong kind, the set denies every request, and Err says why.
func Compile(p Policies, mode Mode) *Set {
	s := &Set{mode: mode}
	add := func(d *Document, kind Kind, group int) {
		if d.err != nil {
			s.err = errors.Join(s.err, d.err)
		} else if d.kind != kind {
			s.err = errors.Join(s.err, fmt.Errorf("policy %q is of kind %s, where %s is needed", d.name, d.kind, kind))
		}
		for i := range d.statements {
			s.rules = append(s.rules, rule{&d.statements[i], d, uint8(group)})
		}
	}
	addLimit := func(d *Document, kind Kind, reason Reason) {
		s.limits = append(s.limits, limit{d, reason})
		add(d, kind, groupLimits+len(s.limits)-1)
	}
	for _, d := range p.Identity {
		add(d, KindIdentity, groupIdentity)
	}
	if p.Resource != nil {
		add(p.Resource, KindResource, groupResource)
	}
	for _, d := range p.Guardrails {
		addLimit(d, KindGuardrail, ReasonNoGuardrail)
	}
	if p.Boundary != nil {
		addLimit(p.Boundary, KindBoundary, ReasonNoBoundary)
	}
	for _, d := range p.Session {
		addLimit(d, KindSession, ReasonNoSession)
	}
	if groupLimits+len(s.limits) > 64 {
		s.err = errors.Join(s.err, fmt.Errorf("%d guardrails, boundaries and session documents; the limit is %d", len(s.limits), 64-groupLimits))
	}
	slices.SortStableFunc(s.rules, func(a, b rule) int {
		switch {
		case a.deny == b.deny:
			return 0
		case a.deny:
			return -1
		}
		return 1
	})
	return s
}

// Err says which stored documents are broken, or nil. Whoever compiles raises the alert.
func (s *Set) Err() error { return s.err }

// Decide says whether req is allowed, and why.
//
// One pass over the statements finds out which groups allow: a covering Deny ends it, and an error in a
// condition denies in the end, wherever it stands. Then the groups are weighed in the order of the AWS
// documents: guardrails, the root's own right, the resource policy, identity, boundary, session.
func (s *Set) Decide(req *Request) Verdict {
	if s.err != nil {
		return failed(s.err)
	}
	e := evaluation{mode: s.mode, req: req, steps: maxSteps}
	if err := e.begin(); err != nil {
		return failed(err)
	}
	var (
		allowed  uint64   // a bit for each group
		granted  grant    // how closely the resource policy names the caller
		identity = noRule // the first identity rule that allows
		resource = noRule // the resource rule that granted it
		failure  error    // of the first condition that could not be decided
	)
	for i := range s.rules {
		r := &s.rules[i]
		if !r.actions.has(req.Action) {
			continue
		}
		who := grantNone
		if r.group == groupResource {
			if who = r.principals.grant(req.Principal); who == grantNone {
				continue
			}
		}
		// A group that allows already gains nothing from another Allow, but an error must not depend on
		// the order of statements, so those that may give one are tried all the same.
		if allowed&(1<<r.group) != 0 && who <= granted && !r.mayFail {
			continue
		}
		covers, err := r.covers(&e)
		switch {
		case err != nil:
			if failure == nil {
				failure = fmt.Errorf("statement %d of policy %q: %w", r.index, r.doc.name, err)
			}
		case !covers:
		case r.deny:
			return s.verdict(Deny, ReasonExplicitDeny, i)
		default:
			switch {
			case r.group == groupIdentity && identity == noRule:
				identity = i
			case r.group == groupResource && who > granted:
				granted, resource = who, i
			}
			allowed |= 1 << r.group
		}
	}
	if failure != nil {
		return failed(failure)
	}
	return s.weigh(req, allowed, granted, identity, resource)
}

// Always reports whether Decide surely allows action on the resource on, whatever the facts are and, where on has four slots,
// whatever stands in the last one. False means that Decide has to be asked.
//
// It looks only for what is simple and common: statements without conditions that cover everything. A statement on this
// action that denies, that may fail, or that belongs to a cache's own policy makes it give up.
func (s *Set) Always(who *Principal, action Action, on Resource) bool {
	req := Request{Principal: who, Action: action, Resource: on}
	e := evaluation{mode: s.mode, req: &req, steps: maxSteps}
	if s.err != nil || s.mode != ModeStrict || e.begin() != nil {
		return false
	}
	allowed, identity := uint64(0), noRule
	for i := range s.rules {
		r := &s.rules[i]
		if !r.actions.has(action) {
			continue
		}
		if r.deny || r.mayFail || r.group == groupResource {
			return false
		}
		if r.coversAll(&e) {
			allowed |= 1 << r.group
			if r.group == groupIdentity {
				identity = i
			}
		}
	}
	return s.weigh(&req, allowed, grantNone, identity, noRule).Decision == Allow
}

// DecideAll says whether req is allowed whatever stands in the last of its resource's four slots. It may deny what is allowed on
// each, since it does not look for statements that together cover all: an Allow has to do so alone, and a Deny that applies to
// the action denies, whichever the resources that it names.
func (s *Set) DecideAll(req *Request) Verdict {
	e := evaluation{mode: s.mode, req: req, steps: maxSteps}
	if s.err != nil {
		return failed(s.err)
	}
	if err := e.begin(); err != nil {
		return failed(err)
	}
	if s.mode != ModeStrict { // patterns span slots there
		return s.verdict(Deny, ReasonImplicitDeny, noRule)
	}
	allowed, identity := uint64(0), noRule
	for i := range s.rules {
		r := &s.rules[i]
		if !r.actions.has(req.Action) || r.group == groupResource && !r.deny {
			continue
		}
		holds, err := r.holds(&e)
		if err != nil {
			return failed(fmt.Errorf("statement %d of policy %q: %w", r.index, r.doc.name, err))
		}
		switch {
		case r.deny && (holds || r.asksForKeys()):
			return s.verdict(Deny, ReasonExplicitDeny, i)
		case !holds || r.deny || r.asksForKeys():
		case !r.butThese && r.matchesAll(&e):
			allowed |= 1 << r.group
			if r.group == groupIdentity && identity == noRule {
				identity = i
			}
		}
	}
	if e.steps < 0 {
		return failed(errTooHard)
	}
	return s.weigh(req, allowed, grantNone, identity, noRule)
}

// asksForKeys reports whether a condition looks at a call's keys, of which those that DecideAll is about are none.
func (st *statement) asksForKeys() bool {
	return slices.ContainsFunc(st.conditions, func(c condition) bool { return c.key.key == KeyKeys })
}

// coversAll reports whether the statement covers the request whatever is in the last of four slots.
func (st *statement) coversAll(e *evaluation) bool {
	return !st.butThese && len(st.conditions) == 0 && st.matchesAll(e)
}

// matchesAll reports whether one of the statement's resources is the request's whatever is in the last of four slots.
func (st *statement) matchesAll(e *evaluation) bool {
	for i := range st.resources {
		if st.resources[i].matchAll(e) {
			return true
		}
	}
	return false
}

const noRule = -1

// weigh turns what the groups say into a verdict. No statement denies.
func (s *Set) weigh(req *Request, allowed uint64, granted grant, identity, resource int) Verdict {
	who := req.Principal
	anonymous := who.Type == TypeAnonymous
	home := !anonymous && who.Tenant == req.Resource.tenant
	for i := range s.limits {
		if s.limits[i].reason == ReasonNoGuardrail && allowed&(1<<(groupLimits+i)) == 0 {
			return s.limited(i)
		}
	}
	reason, by := ReasonImplicitDeny, noRule
	switch {
	case home && who.Type == TypeRoot:
		reason = ReasonRoot
	case home && granted >= grantRole, anonymous && granted == grantDirect:
		reason, by = ReasonResource, resource
	case anonymous:
		return s.verdict(Deny, ReasonImplicitDeny, noRule)
	case identity == noRule:
		return s.verdict(Deny, ReasonImplicitDeny, noRule)
	case home:
		reason, by = ReasonIdentity, identity
	case granted == grantNone:
		return s.verdict(Deny, ReasonNoCrossTenant, noRule)
	default:
		reason, by = ReasonCrossTenant, identity
	}
	if anonymous && s.mode == ModeStrict && !req.AllowPublic {
		return s.verdict(Deny, ReasonPublicBlocked, noRule)
	}
	// In AWS mode, naming a caller itself in the resource policy passes by its boundary and session.
	if s.mode == ModeStrict || reason != ReasonResource || granted != grantDirect {
		for i := range s.limits {
			if allowed&(1<<(groupLimits+i)) == 0 {
				return s.limited(i)
			}
		}
	}
	return s.verdict(Allow, reason, by)
}

// limited is the denial for want of an Allow in limit i.
func (s *Set) limited(i int) Verdict {
	return Verdict{Reason: s.limits[i].reason, Policy: s.limits[i].doc.name, Statement: -1}
}

// verdict is a decision, by rule i or none.
func (s *Set) verdict(d Decision, reason Reason, i int) Verdict {
	v := Verdict{Decision: d, Reason: reason, Statement: -1}
	if i != noRule {
		r := &s.rules[i]
		v.Policy, v.Statement, v.Sid = r.doc.name, r.index, r.sid
	}
	return v
}

// failed is the denial for an error.
func failed(err error) Verdict { return Verdict{Reason: ReasonError, Statement: -1, Err: err} }

// A grant says how closely a resource policy names a caller.
type grant uint8

const (
	grantNone   grant = iota
	grantTenant       // its tenant, which leaves the decision to that tenant's own policies
	grantRole         // the role that it plays
	grantDirect       // the caller itself, or everybody
)

// grant says how a statement's principals name who. NotPrincipal, which goes with Deny only, names everybody
// whom it does not list.
func (p *principals) grant(who *Principal) grant {
	g := grantNone
	switch {
	case p.anybody:
		g = grantDirect
	case who.Type == TypeAnonymous:
	case slices.Contains(p.arns, who.ARN):
		g = grantDirect
	case who.RoleARN != "" && slices.Contains(p.arns, who.RoleARN):
		g = grantRole
	case slices.Contains(p.tenants, who.Tenant):
		g = grantTenant
	}
	if !p.others {
		return g
	}
	if g == grantNone {
		return grantDirect
	}
	return grantNone
}

// covers reports whether the statement applies to the request, whose action and principal it fits.
func (st *statement) covers(e *evaluation) (bool, error) {
	covered := st.coversResource(e)
	if e.steps < 0 {
		return false, errTooHard
	}
	if !covered {
		return false, nil
	}
	return st.holds(e)
}

// holds reports whether the statement's conditions do. All are tried, so that an error in one is seen in whatever order they
// stand.
func (st *statement) holds(e *evaluation) (bool, error) {
	all := true
	for i := range st.conditions {
		c := &st.conditions[i]
		ok, err := c.holds(e)
		if err == nil && e.steps < 0 {
			err = errTooHard
		}
		if err != nil {
			return false, fmt.Errorf("%s %w", c.key, err)
		}
		all = all && ok
	}
	return all, nil
}

func (st *statement) coversResource(e *evaluation) bool {
	for i := range st.resources {
		if st.resources[i].match(e) {
			return !st.butThese
		}
	}
	if !st.butThese {
		return false
	}
	if !st.deny && e.mode == ModeStrict {
		// What a pattern without its variable would have taken out is unknown, so nothing is allowed.
		for i := range st.resources {
			if !st.resources[i].whole.resolves(e) {
				return false
			}
		}
	}
	return true
}

// An evaluation is one run of Decide, kept on the stack.
type evaluation struct {
	mode  Mode
	req   *Request
	item  string // the last of four slots, as patterns see it
	path  string // the whole path, in AWS mode
	steps int    // how many more the matcher may take; below zero, it gave up
}

// maxSteps bounds the work on one decision to some milliseconds. Patterns that people write take a few steps
// for each character of a key; only patterns and keys made for it take more, and are denied.
const maxSteps = 1 << 20

var errTooHard = errors.New("takes too many steps to match")

// spend takes n steps, and reports whether there were any left. Without an evaluation there is no bound.
func (e *evaluation) spend(n int) bool {
	if e == nil {
		return true
	}
	if e.steps >= 0 {
		e.steps -= n
	}
	return e.steps >= 0
}

var (
	errNoPrincipal = errors.New("the request has no principal, or one without a type, tenant or name")
	errNoAction    = errors.New("the request has no known action")
	errNoResource  = errors.New("the request has no well-formed resource with a tenant")
	errNotOperator = errors.New("operator actions act on resources of the tenant " + SystemTenant + " only")
)

// begin checks the request. Gateways do not send what it refuses, so refusing is a last line of defence.
func (e *evaluation) begin() error {
	req := e.req
	who, r := req.Principal, &req.Resource
	switch {
	case who == nil || who.Type == "" || who.Type != TypeAnonymous && (who.Tenant == "" || who.ARN == ""):
		return errNoPrincipal
	case req.Action == 0 || req.Action >= actionEnd:
		return errNoAction
	case r.n == 0 || r.tenant == "":
		return errNoResource
	case actions[req.Action].class == operates && r.tenant != SystemTenant:
		return errNotOperator
	}
	e.item = r.slots[maxSlots-1]
	if !utf8.ValidString(e.item) {
		req.scratch = appendPrintable(req.scratch[:0], e.item)
		e.item = unsafe.String(unsafe.SliceData(req.scratch), len(req.scratch))
	}
	if e.mode == ModeAWS {
		e.path = strings.Join(r.slots[:min(r.n, maxSlots-1)], "/")
		if r.n == maxSlots {
			e.path += "/" + e.item
		}
	}
	return nil
}

// value is the fact for a key, given or derived.
func (e *evaluation) value(ref keyRef) Value {
	if e.req.Context != nil {
		if v := e.req.Context.Lookup(ref.key, ref.name); v.kind != kindNone {
			return v
		}
	}
	derived := ""
	switch ref.key {
	case KeyPrincipalARN:
		derived = e.req.Principal.ARN
		if e.req.Principal.RoleARN != "" {
			derived = e.req.Principal.RoleARN
		}
	case KeyPrincipalTenant:
		derived = e.req.Principal.Tenant
	case KeyResourceTenant:
		derived = e.req.Resource.tenant
	}
	if derived == "" {
		return Value{}
	}
	return Text(derived)
}

// itemText is the text that an item other than a wildcard stands for. A variable without a value stands
// for none, not for the empty text.
func (e *evaluation) itemText(it *item) (string, bool) {
	if it.kind != variable {
		return it.text, true
	}
	v := e.value(it.key)
	if v.kind == kindNone {
		return it.text, it.deflt
	}
	text, err := v.asText()
	return text, err == nil
}
