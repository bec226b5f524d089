package httpapi

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// Answers remembers for engine.OnceWindow what management answered to requests with an Idempotency-Key: a
// repetition is not carried out and gets the same answer. Writes of data have the same in the engine, beside
// what they change; what management changes stands in etcd, and so does its memory, for all nodes.
//
// A request is noted before it is carried out, and its answer is noted before anybody hears it:
//
//	A1: of the requests with one name, one at most is carried out as long as its note stands
//	A2: a note goes when its request failed and changed nothing, or when its window is over, and never else
//	A3: a note tells nothing of an answer to whoever lacks the credential or the idempotency key
//
// A process that dies in between leaves a note without an answer. Nobody knows what became of that request,
// and a repetition is told so.
//
// Notes are in the memory of every node, so each tenant has room for so many and no more.
type Answers struct {
	m     *mirror.Mirror
	notes *records.Table[note]
	now   func() time.Time
	log   *slog.Logger

	mu   sync.Mutex
	room map[auth.TenantID]taken
}

// A note is what is kept of a request. Its name is the tenant's id and a digest of the principal with the key.
type note struct {
	Fingerprint string    `json:"fingerprint"` // of the request
	Salt        string    `json:"salt"`        // new with each note, and so tells whose it is
	CreatedAt   time.Time `json:"created_at"`
	Done        bool      `json:"done,omitempty"`
	Sealed      []byte    `json:"sealed,omitempty"` // the answer; none if it is done and was larger than maxSealed
}

// over reports whether the note's window is.
func (n *note) over(now time.Time) bool { return now.Sub(n.CreatedAt) >= engine.OnceWindow }

// taken is the room that a tenant's notes take.
type taken struct{ notes, bytes int }

const notesPath = "once"

// Bounds of what is remembered. A repetition of a request whose answer was too large learns that it was done.
const (
	maxSealed    = 256 << 10 // bytes of one answer
	maxNotes     = 10_000    // of a tenant
	maxNoteBytes = 16 << 20  // of a tenant's answers together, give or take those under way
	sweepAtMost  = 1000      // notes in one call
	claimTries   = 3
)

// carryOut is how long a request with a key may be carried out; one that is pending for longer than underWay
// was left behind by a process that died. The difference is for noting the answer, and for clocks that differ.
const (
	carryOut = requestTimeout
	underWay = time.Minute
)

// OpenAnswers reads what is remembered.
func OpenAnswers(m *mirror.Mirror, now func() time.Time, log *slog.Logger) *Answers {
	a := &Answers{m: m, now: now, log: log, room: map[auth.TenantID]taken{}}
	a.notes = records.Open[note](m, "idempotency key", notesPath, log)
	a.notes.OnChange(a.follow)
	return a
}

// follow keeps account of the room.
func (a *Answers) follow(name string, old, new *note) {
	tenant := noteOwner(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.room[tenant]
	if old != nil {
		t.notes, t.bytes = t.notes-1, t.bytes-len(old.Sealed)
	}
	if new != nil {
		t.notes, t.bytes = t.notes+1, t.bytes+len(new.Sealed)
	}
	if a.room[tenant] = t; t.notes == 0 {
		delete(a.room, tenant)
	}
}

func noteOwner(name string) auth.TenantID {
	tenant, _, _ := strings.Cut(name, "/")
	return auth.TenantID(tenant)
}

// full refuses another note of a tenant that has no room for it.
func (a *Answers) full(tenant auth.TenantID) error {
	a.mu.Lock()
	t := a.room[tenant]
	a.mu.Unlock()
	if t.notes < maxNotes && t.bytes < maxNoteBytes {
		return nil
	}
	e := fault.About(fault.Throttled, "httpapi.remember", "Idempotency-Key",
		"%d management requests of the last %d hours are remembered, with %d bytes of answers; the limits are %d and %d: send this one without an Idempotency-Key",
		t.notes, int(engine.OnceWindow.Hours()), t.bytes, maxNotes, maxNoteBytes)
	e.RetryAfter = time.Minute // when the next are swept
	return e
}

// claim notes a request that is about to be carried out, and returns its note; or that of an earlier one under
// the same name, which stands in its way.
func (a *Answers) claim(ctx context.Context, name string, mine *note) (*note, error) {
	for range claimTries {
		found, ok := a.notes.Get(name)
		switch {
		case ok && (found.Salt == mine.Salt || !found.over(mine.CreatedAt)):
			return found, nil
		case ok:
			_, err := a.notes.Update(ctx, name, func(n *note) error {
				if !n.over(mine.CreatedAt) {
					return fault.New(fault.Conflict, "httpapi.claim", "another request was first")
				}
				*n = *mine
				return nil
			})
			if err == nil {
				return mine, nil
			}
			if !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.OutcomeUnknown) {
				return nil, err
			}
		default:
			if err := a.full(noteOwner(name)); err != nil {
				return nil, err
			}
			err := a.notes.Create(ctx, name, mine)
			if err == nil {
				return mine, nil
			}
			if !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.OutcomeUnknown) {
				return nil, err
			}
		}
	}
	// A note of ours may stand nevertheless. Then repetitions are refused although nothing was done, which is
	// the safe side.
	return nil, fault.New(fault.Unavailable, "httpapi.claim", "the control store did not confirm that the request was noted, so it was not carried out")
}

// keep adds the answer to a note.
func (a *Answers) keep(ctx context.Context, name string, mine *note, sealed []byte) error {
	if len(sealed) > maxSealed {
		sealed = nil
	}
	_, err := a.notes.Update(ctx, name, func(n *note) error {
		if n.Salt != mine.Salt {
			return fault.New(fault.Internal, "httpapi.keep", "the note is another request's")
		}
		n.Done, n.Sealed = true, sealed
		return nil
	})
	return err
}

// Sweep forgets what is older than the window, a bounded number at a time. Call it every minute. Any number of
// nodes may.
func (a *Answers) Sweep(ctx context.Context) error {
	now, prefix, swept := a.now(), records.Root+notesPath+"/", 0
	for _, r := range a.m.List(prefix, "", 0) {
		n, ok := a.notes.Get(strings.TrimPrefix(r.Key, prefix))
		if !ok || !n.over(now) {
			continue
		}
		if swept++; swept > sweepAtMost {
			return nil
		}
		// Its key may have been used again since; then it stays.
		if _, err := a.m.Delete(ctx, r.Key, r.ModRevision); err != nil && !errors.Is(err, mirror.ErrConflict) {
			return fmt.Errorf("forgetting old idempotency keys: %w", err)
		}
	}
	return nil
}

// remembered reports whether requests to the route are carried out once if they carry an Idempotency-Key.
// Routes for data have the engine for that.
func (r route) remembered() bool {
	return r.manage && r.method != http.MethodGet && !r.reads && !r.long
}

// serveOnce is serve for a route that is remembered. With each repetition the principal is authenticated anew, and
// must still have the rights that the request took.
func (x *exchange) serveOnce(row route) error {
	key, err := idempotencyKey(x.Request())
	if err != nil {
		return err
	}
	if key == "" {
		return x.serve(row)
	}
	body, err := x.readBody(maxJSONBody)
	if err != nil {
		return err
	}
	credential, err := bearer(x.Request().Header["Authorization"])
	if err != nil {
		return err
	}
	// Who goes away in the middle comes back with the same key, so what was begun is brought to its end.
	background := context.WithoutCancel(x.Request().Context())
	ctx, cancel := context.WithTimeout(background, carryOut)
	defer cancel()
	r := x.Request().WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(bytes.Clone(body)))
	x.SetRequest(r)

	a, who := x.api.Answers, x.who()
	id, print := digest([]byte(who.ID), []byte(key)), x.fingerprint()
	name := string(who.TenantID) + "/" + hex.EncodeToString(id[:])
	mine := &note{Fingerprint: hex.EncodeToString(print[:]), Salt: rand.Text(), CreatedAt: a.now().UTC()}
	n, err := a.claim(background, name, mine)
	if err != nil {
		return err
	}
	lid, err := newLid(credential, key, name, n.Salt)
	if err != nil {
		return err
	}
	if n.Salt != mine.Salt {
		return x.repeat(n, mine, lid)
	}
	var granted []gateway.Grant
	x.caller.Granted = &granted
	d := &draft{ResponseWriter: x.Response().Writer}
	x.Response().Writer = d
	err = x.serve(row)
	x.Response().Writer = d.ResponseWriter
	x.Response().Committed = false // nothing was sent yet
	if err != nil {
		a.release(background, name, err)
		return err
	}
	// If this fails the client gets its answer all the same: it may hold what is never shown again.
	if err := a.keep(background, name, mine, lid.seal(x.Response().Status, granted, d)); err != nil {
		a.log.Warn("an answer is not remembered; a repetition will be told that its outcome is unknown", "error", err)
	}
	return x.send(x.Response().Status, d.body.Bytes())
}

// release makes a key good for another attempt after its request failed. Where a part of the work may have been
// done it stays as it is: a repetition has to look first.
func (a *Answers) release(ctx context.Context, name string, failed error) {
	if fault.Is(failed, fault.OutcomeUnknown) || fault.Is(failed, fault.Internal) {
		return
	}
	if err := a.notes.Delete(ctx, name); err != nil {
		a.log.Warn("an idempotency key stays taken although its request failed", "error", err)
	}
}

// repeat answers a request that was noted before. mine is the note that it would have got.
func (x *exchange) repeat(n, mine *note, l *lid) error {
	refuse := func(kind fault.Kind, format string, args ...any) error {
		return fault.About(kind, "httpapi.repeat", "Idempotency-Key", format, args...)
	}
	switch age := mine.CreatedAt.Sub(n.CreatedAt); {
	case n.Fingerprint != mine.Fingerprint:
		return errKeyReused
	case !n.Done && age < underWay:
		return refuse(fault.Conflict, "the first request with this idempotency key is being carried out: try again in a moment")
	case !n.Done:
		return refuse(fault.OutcomeUnknown, "the first request with this idempotency key broke off, and nobody knows what it has done: look, and then try again under another key")
	case len(n.Sealed) == 0:
		return refuse(fault.Conflict, "this was done; its answer had more than %d bytes and is not remembered", maxSealed)
	}
	head, body, err := l.open(n.Sealed)
	if err != nil {
		return refuse(fault.Conflict, "this was done, and asked for with another credential of yours, which alone opens the answer")
	}
	for _, g := range head.Granted {
		if err := x.api.Gateway.AuthorizeAgain(&x.caller, g); err != nil {
			return err
		}
	}
	for k, v := range head.Header {
		x.header(k, v)
	}
	x.header("Idempotency-Replayed", "true")
	noStore(x.Response().Header())
	return x.send(head.Status, body)
}

// send writes an answer whose headers are set.
func (x *exchange) send(status int, body []byte) error {
	if len(body) > 0 {
		x.Response().Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.Response().WriteHeader(status)
	return x.write(body)
}

// A draft takes an answer that is not to be sent yet. Answers of management are small.
type draft struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (*draft) WriteHeader(int)               {} // the exchange's response knows the status
func (d *draft) Write(b []byte) (int, error) { return d.body.Write(b) }

// A lid closes answers, which hold keys and tokens in full: it is made of the credential and the idempotency key
// and stands nowhere, so etcd, its backups and our copies on disk tell nothing to whoever lacks either.
type lid struct {
	cipher.AEAD
	name string // of the note: an answer opens nowhere else
}

func newLid(credential, key, name, salt string) (*lid, error) {
	secret := fmt.Appendf(nil, "%d:%s%s", len(credential), credential, key)
	sum, err := hkdf.Key(sha256.New, secret, []byte(salt), "larder management answer", 32)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "httpapi.lid", err, "")
	}
	block, err := aes.NewCipher(sum)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "httpapi.lid", err, "")
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "httpapi.lid", err, "")
	}
	return &lid{aead, name}, nil
}

// answerHead is what is kept of an answer before its body. A line feed separates the two.
type answerHead struct {
	Status  int               `json:"status"`
	Header  map[string]string `json:"header,omitempty"`
	Granted []gateway.Grant   `json:"granted,omitempty"` // the rights it took: who has lost one since hears no more of it
}

// keptHeaders are those that belong to what was done, and not to the exchange.
var keptHeaders = []string{"Content-Type", "Etag", "Location"}

func (l *lid) seal(status int, granted []gateway.Grant, d *draft) []byte {
	head := answerHead{Status: status, Header: map[string]string{}, Granted: granted}
	for _, h := range keptHeaders {
		if v := d.Header().Get(h); v != "" {
			head.Header[h] = v
		}
	}
	return l.Seal(nil, nil, append(encode(head), d.body.Bytes()...), []byte(l.name))
}

// open returns a sealed answer.
func (l *lid) open(sealed []byte) (head answerHead, body []byte, err error) {
	text, err := l.Open(nil, nil, sealed, []byte(l.name))
	if err != nil {
		return head, nil, err
	}
	line, body, _ := bytes.Cut(text, []byte("\n"))
	return head, body, json.Unmarshal(line, &head)
}
