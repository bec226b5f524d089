package larder

import (
	"context"
	"iter"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A Leaderboard ranks members by score. It is made by its first score.
type Leaderboard struct {
	cache Cache
	name  string
	order *string
}

// Leaderboard names a leaderboard, on which the highest score has rank 1.
func (c Cache) Leaderboard(name string) Leaderboard { return Leaderboard{cache: c, name: name} }

// Ascending is the same leaderboard, seen so that the lowest score has rank 1.
func (b Leaderboard) Ascending() Leaderboard {
	b.order = given("asc")
	return b
}

// Leaderboards lists the cache's leaderboards whose names begin with prefix, in no particular order. A board
// may be listed twice.
func (c Cache) Leaderboards(ctx context.Context, prefix string, options ...CallOption) iter.Seq2[api.LeaderboardItem, error] {
	return pages(func(cursor *string) ([]api.LeaderboardItem, string, error) {
		page, err := c.api.ListLeaderboards(ctx, c.name, &api.ListLeaderboardsParams{Prefix: given(prefix), Cursor: cursor}, options...)
		return page.Leaderboards, page.NextCursor, err
	})
}

// Mode says what a score does to the one that a member has.
type Mode string

// The modes.
const (
	Replace   Mode = "set"       // takes its place
	Increment Mode = "increment" // is added to it
	Highest   Mode = "max"       // the higher of the two stays
	Lowest    Mode = "min"       // the lower of the two stays
)

// Put gives a member a score, and returns where the member then stands.
func (b Leaderboard) Put(ctx context.Context, member string, score float64, mode Mode, options ...CallOption) (api.Standing, error) {
	req := api.PutMemberRequest{Score: api.Score(score), Mode: given(string(mode))}
	return b.cache.api.PutMember(ctx, b.cache.name, b.name, member, &api.PutMemberParams{Order: b.order}, req, options...)
}

// PutAll gives several members scores, all of them or none.
func (b Leaderboard) PutAll(ctx context.Context, members []api.MemberScore, mode Mode, options ...CallOption) (api.PutMembersResult, error) {
	return b.cache.api.PutMembers(ctx, b.cache.name, b.name, api.PutMembersRequest{Members: members, Mode: given(string(mode))}, options...)
}

// Get returns where a member stands. ErrNotFound if it is not on the board.
func (b Leaderboard) Get(ctx context.Context, member string, options ...CallOption) (api.Standing, error) {
	return b.cache.api.GetMember(ctx, b.cache.name, b.name, member, &api.GetMemberParams{Order: b.order}, options...)
}

// A Page says which members are wanted. The zero Page is the best 100.
type Page struct {
	Offset int    // how many members to pass over
	Limit  int    // how many to return, 1 to 1000; 100 if you do not say
	Min    string // only members with at least this score, or more than it after "("; -inf for any
	Max    string // only members with at most this score, or less than it after "("; +inf for any
}

func (b Leaderboard) params(p Page) *api.GetMembersParams {
	return &api.GetMembersParams{Order: b.order, Offset: given(p.Offset), Limit: given(p.Limit), MinScore: given(p.Min), MaxScore: given(p.Max)}
}

// Page returns a page of the board.
func (b Leaderboard) Page(ctx context.Context, p Page, options ...CallOption) (api.MembersPage, error) {
	return b.cache.api.GetMembers(ctx, b.cache.name, b.name, b.params(p), options...)
}

// Members goes through the board from a page on, Limit members at a time. A board that changes meanwhile may
// show a member twice or not at all.
func (b Leaderboard) Members(ctx context.Context, from Page, options ...CallOption) iter.Seq2[api.Standing, error] {
	return pages(func(cursor *string) ([]api.Standing, string, error) {
		params := b.params(from)
		if cursor != nil {
			params.Cursor, params.Offset = cursor, nil
		}
		page, err := b.cache.api.GetMembers(ctx, b.cache.name, b.name, params, options...)
		return page.Members, page.NextCursor, err
	})
}

// Around returns a member with those above and below it.
func (b Leaderboard) Around(ctx context.Context, member string, above, below int, options ...CallOption) (api.MembersPage, error) {
	params := &api.GetAroundParams{Above: &above, Below: &below, Order: b.order}
	return b.cache.api.GetAround(ctx, b.cache.name, b.name, member, params, options...)
}

// Among ranks some members among themselves, the best first, and leaves out those that are not on the board.
func (b Leaderboard) Among(ctx context.Context, members []string, options ...CallOption) ([]api.StandingAmong, error) {
	among, err := b.cache.api.GetAmong(ctx, b.cache.name, b.name, api.AmongRequest{Members: bytesOf(members), Order: b.order}, options...)
	return among.Members, err
}

// Remove removes members, and returns how many there were.
func (b Leaderboard) Remove(ctx context.Context, members []string, options ...CallOption) (int64, error) {
	done, err := b.cache.api.RemoveMembers(ctx, b.cache.name, b.name, api.RemoveMembersRequest{Members: bytesOf(members)}, options...)
	return done.Removed, err
}

// Trim removes all but the best members, and returns how many.
func (b Leaderboard) Trim(ctx context.Context, keep int64, options ...CallOption) (int64, error) {
	done, err := b.cache.api.TrimLeaderboard(ctx, b.cache.name, b.name, api.TrimRequest{Keep: keep, Order: b.order}, options...)
	return done.Removed, err
}

// Configure makes the board, or changes its settings: how ties are broken, how many members it keeps.
func (b Leaderboard) Configure(ctx context.Context, s api.PutLeaderboardRequest, options ...CallOption) (api.Leaderboard, error) {
	return b.cache.api.PutLeaderboard(ctx, b.cache.name, b.name, s, options...)
}

// Describe returns the board's size and settings.
func (b Leaderboard) Describe(ctx context.Context, options ...CallOption) (api.Leaderboard, error) {
	return b.cache.api.GetLeaderboard(ctx, b.cache.name, b.name, options...)
}

// Expire gives the board a deadline.
func (b Leaderboard) Expire(ctx context.Context, ttl time.Duration, options ...CallOption) error {
	_, err := b.cache.api.SetLeaderboardTTL(ctx, b.cache.name, b.name, api.SetLeaderboardTTLRequest{TTL: api.Duration(ttl)}, options...)
	return err
}

// Persist lets the board live until it is deleted.
func (b Leaderboard) Persist(ctx context.Context, options ...CallOption) error {
	return b.cache.api.DeleteLeaderboardTTL(ctx, b.cache.name, b.name, options...)
}

// Delete deletes the board.
func (b Leaderboard) Delete(ctx context.Context, options ...CallOption) error {
	return b.cache.api.DeleteLeaderboard(ctx, b.cache.name, b.name, options...)
}

func bytesOf(names []string) []api.Bytes {
	list := make([]api.Bytes, len(names))
	for i, n := range names {
		list[i] = api.Bytes(n)
	}
	return list
}
