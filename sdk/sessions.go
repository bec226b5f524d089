package larder

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// Sessions are the sessions of a cache's users.
type Sessions Cache

// Sessions has the cache's sessions.
func (c Cache) Sessions() Sessions { return Sessions(c) }

// A Session is one session. Who holds its ID holds the session.
type Session struct {
	api.Session
	ETag string // its version: see IfMatch; empty in a list
}

// Decode reads the session's data into v, as encoding/json does.
func (s *Session) Decode(v any) error { return json.Unmarshal(s.Data, v) }

// A NewSession says how a session begins. All of it may be left out.
type NewSession struct {
	Data        any           // of any type that encoding/json writes
	User        string        // whose it is, to list and revoke it by
	IdleTTL     time.Duration // ends it when it was not used for so long
	AbsoluteTTL time.Duration // ends it so long after it began; where neither is given, IdleTTL is 24h
	MaxPerUser  int64         // ends the user's oldest sessions beyond so many, this one counted
}

// Create begins a session. The server makes its ID.
func (s Sessions) Create(ctx context.Context, n NewSession, options ...CallOption) (Session, error) {
	req := api.CreateSessionRequest{
		User: given(api.Bytes(n.User)), IdleTTL: given(api.Duration(n.IdleTTL)), AbsoluteTTL: given(api.Duration(n.AbsoluteTTL)),
		MaxPerUser: given(n.MaxPerUser),
	}
	if n.Data != nil {
		data, err := encode(n.Data)
		if err != nil {
			return Session{}, err
		}
		req.Data = &data
	}
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.CreateSession(ctx, s.name, req, options...)
	})
}

// Get reads a session, which is a use of it: its idle deadline moves. ErrNotFound if there is none, or if it
// has ended.
func (s Sessions) Get(ctx context.Context, id string, options ...CallOption) (Session, error) {
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.GetSession(ctx, s.name, id, nil, options...)
	})
}

// Peek reads a session without using it.
func (s Sessions) Peek(ctx context.Context, id string, options ...CallOption) (Session, error) {
	touch := false
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.GetSession(ctx, s.name, id, &api.GetSessionParams{Touch: &touch}, options...)
	})
}

// Replace gives a session other data.
func (s Sessions) Replace(ctx context.Context, id string, data any, options ...CallOption) (Session, error) {
	text, err := encode(data)
	if err != nil {
		return Session{}, err
	}
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.SetSession(ctx, s.name, id, nil, api.SetSessionRequest{Data: text}, options...)
	})
}

// Patch changes a session's data by a JSON merge patch (RFC 7396): members that are null are removed, others
// set.
func (s Sessions) Patch(ctx context.Context, id string, patch any, options ...CallOption) (Session, error) {
	text, err := encode(patch)
	if err != nil {
		return Session{}, err
	}
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.PatchSession(ctx, s.name, id, nil, text, options...)
	})
}

// Rotate gives a session another ID; the old one is dead at once. Do it when a user signs in.
func (s Sessions) Rotate(ctx context.Context, id string, options ...CallOption) (Session, error) {
	return tagged(options, func(options []CallOption) (api.Session, error) {
		return s.api.RotateSession(ctx, s.name, id, options...)
	})
}

// Delete ends a session.
func (s Sessions) Delete(ctx context.Context, id string, options ...CallOption) error {
	return s.api.DeleteSession(ctx, s.name, id, nil, options...)
}

// OfUser lists the sessions of a user, the oldest first.
func (s Sessions) OfUser(ctx context.Context, user string, options ...CallOption) iter.Seq2[Session, error] {
	return pages(func(cursor *string) ([]Session, string, error) {
		page, err := s.api.ListSessions(ctx, s.name, &api.ListSessionsParams{User: user, Cursor: cursor}, options...)
		list := make([]Session, len(page.Sessions))
		for i := range list {
			list[i].Session = page.Sessions[i]
		}
		return list, page.NextCursor, err
	})
}

// Revoke ends all sessions of a user, except the one with the ID except if that is not empty, and returns how
// many.
func (s Sessions) Revoke(ctx context.Context, user, except string, options ...CallOption) (int64, error) {
	done, err := s.api.RevokeSessions(ctx, s.name, &api.RevokeSessionsParams{User: user, Except: given(except)}, options...)
	return done.Revoked, err
}

// tagged makes a call that answers a session with its ETag.
func tagged(options []CallOption, do func([]CallOption) (api.Session, error)) (Session, error) {
	var own http.Header
	session, err := do(append([]CallOption{api.Received(&own)}, options...))
	return Session{session, own.Get("ETag")}, err
}

func encode(v any) (api.JSON, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("larder: %w", err)
	}
	return text, nil
}
