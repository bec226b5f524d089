// Package policy decides whether a principal may do what it asks: a pure function of policy documents and
// a request, which also says which statement settled it.
//
// Documents are JSON in the manner of AWS IAM: statements that allow or deny actions on resources, under
// conditions. Parse refuses what is malformed; Compile joins the documents that apply to a principal into a
// Set; Set.Decide answers requests, from any number of goroutines, and allocates nothing.
//
// What the package promises:
//
//   - Nothing is allowed unless a statement allows it, and a covering Deny wins wherever it stands.
//   - Boundaries, session documents and guardrails only ever narrow.
//   - Nobody reaches another tenant's resource unless both tenants allow it.
//   - When in doubt, no: a fact of the wrong type, or a stored document that no longer validates, denies.
//   - The order of documents, statements and conditions never matters to a decision.
//   - A decision takes a bounded number of steps; a pattern made to take more is denied.
//
// The evaluator reads no clock and does no I/O: what time it is, like every other fact, comes with the
// request. Only RunFile, which tests policies for their authors, times the matcher.
//
// Start with Set.Decide, then read document.go for the language. The lists of actions, condition keys and
// resource names in actions.go, keys.go and arn.go are the only ones in the project.
package policy

import "fmt"

// A Mode is a reading of the rules where AWS and caution differ.
type Mode uint8

const (
	// ModeStrict is the default. Resources match slot by slot; boundaries and session documents limit also
	// those whom a resource policy names; anonymous callers need the cache's consent; and an Allow with a
	// NotResource whose variable has no value allows nothing.
	ModeStrict Mode = iota
	// ModeAWS decides as AWS documents it.
	ModeAWS
)

// A Decision is Allow or Deny; the zero Decision is Deny.
type Decision bool

// The decisions.
const (
	Deny  Decision = false
	Allow Decision = true
)

func (d Decision) String() string {
	if d == Allow {
		return "Allow"
	}
	return "Deny"
}

// A Reason says which rule settled a decision.
type Reason string

// The reasons. The first four allow.
const (
	ReasonIdentity      Reason = "identity_policy"
	ReasonResource      Reason = "resource_policy"
	ReasonCrossTenant   Reason = "cross_tenant" // both tenants allow it
	ReasonRoot          Reason = "root"         // the tenant's root, within its tenant
	ReasonExplicitDeny  Reason = "explicit_deny"
	ReasonImplicitDeny  Reason = "implicit_deny" // no statement allows it
	ReasonNoBoundary    Reason = "implicit_deny_boundary"
	ReasonNoSession     Reason = "implicit_deny_session"
	ReasonNoGuardrail   Reason = "implicit_deny_guardrail"
	ReasonNoCrossTenant Reason = "implicit_deny_cross_tenant" // the owner of the resource does not allow it
	ReasonPublicBlocked Reason = "public_access_blocked"
	ReasonError         Reason = "error"
)

// reasons lists them for RunFile.
var reasons = []Reason{
	ReasonIdentity, ReasonResource, ReasonCrossTenant, ReasonRoot, ReasonExplicitDeny, ReasonImplicitDeny,
	ReasonNoBoundary, ReasonNoSession, ReasonNoGuardrail, ReasonNoCrossTenant, ReasonPublicBlocked, ReasonError,
}

// A Verdict is a decision with its explanation. A caller who is denied sees the action and the resource
// only; the rest is for the audit record and for those who may simulate policies.
type Verdict struct {
	Decision Decision
	Reason   Reason

	// Policy is the document that settled it, where one did: the one that holds the deciding statement, or
	// the limiting one that has none that allows.
	Policy string
	// Statement is the deciding statement's place in Policy, from 0, or -1; Sid is its name, if it has one.
	Statement int
	Sid       string

	// Err says what was wrong when Reason is ReasonError. It names keys and documents, never values.
	Err error
}

// String explains the verdict in one line.
func (v Verdict) String() string {
	s := fmt.Sprintf("%v (%s)", v.Decision, v.Reason)
	if v.Statement >= 0 {
		s += fmt.Sprintf(" by statement %d", v.Statement)
		if v.Sid != "" {
			s += fmt.Sprintf(" %q", v.Sid)
		}
		s += fmt.Sprintf(" of policy %q", v.Policy)
	} else if v.Policy != "" {
		s += fmt.Sprintf(" for want of an Allow in policy %q", v.Policy)
	}
	if v.Err != nil {
		s += ": " + v.Err.Error()
	}
	return s
}

// A PrincipalType is what kind of credential the caller holds.
type PrincipalType string

// The types of principal.
const (
	TypeKey       PrincipalType = "key"
	TypeSession   PrincipalType = "session" // a token
	TypeRoot      PrincipalType = "root"
	TypeAnonymous PrincipalType = "anonymous" // nobody in particular; has no tenant and no name
)

// A Principal is who asks. It may be shared by any number of requests.
type Principal struct {
	Type    PrincipalType
	Tenant  string
	ARN     string
	RoleARN string // the role that a session plays; empty when it plays none
}

// A Request is one action on one resource. Gateways keep one for each connection and fill it anew.
type Request struct {
	Principal *Principal
	Action    Action
	Resource  Resource

	// Context answers conditions; nil knows nothing. The caller's name and tenant and the resource's tenant
	// are derived from the other fields where Context has no answer.
	Context Context

	// AllowPublic is the cache's own switch that lets anonymous callers in, where its policy allows them.
	AllowPublic bool

	scratch []byte // holds a key that is not UTF-8 as policies see it
}
