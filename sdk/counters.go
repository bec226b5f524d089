package larder

import (
	"context"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A Counter is a number that is added to. It begins at 0.
type Counter struct {
	cache Cache
	name  string
}

// Counter names a counter.
func (c Cache) Counter(name string) Counter { return Counter{c, name} }

// Bounds are what a counter stays within, and how long it lives. The zero Bounds are none.
type Bounds struct {
	TTL      time.Duration // of a counter that this addition makes; 0 for the cache's default
	Min, Max *int64        // nil for the ends of 64 bits
	Saturate bool          // stop at a bound; otherwise the addition is refused with ErrOverflow
}

// Add adds to the counter, and returns it.
func (c Counter) Add(ctx context.Context, by int64, options ...CallOption) (api.Counter, error) {
	return c.AddWithin(ctx, by, Bounds{}, options...)
}

// AddWithin adds to the counter as far as its bounds allow, and returns it.
func (c Counter) AddWithin(ctx context.Context, by int64, within Bounds, options ...CallOption) (api.Counter, error) {
	return c.add(ctx, api.Int(by), within, options)
}

// AddFloat adds a number with a fraction. The counter then is a float, and stays one.
func (c Counter) AddFloat(ctx context.Context, by float64, options ...CallOption) (api.Counter, error) {
	return c.add(ctx, api.Float(by), Bounds{}, options)
}

func (c Counter) add(ctx context.Context, by api.Number, within Bounds, options []CallOption) (api.Counter, error) {
	req := api.AddCounterRequest{By: &by, TTL: given(api.Duration(within.TTL))}
	if within.Min != nil {
		req.Min = given(api.Int(*within.Min))
	}
	if within.Max != nil {
		req.Max = given(api.Int(*within.Max))
	}
	if within.Saturate {
		req.Overflow = given("saturate")
	}
	return c.cache.api.AddCounter(ctx, c.cache.name, c.name, req, options...)
}

// Get reads the counter. ErrNotFound if nothing was added yet.
func (c Counter) Get(ctx context.Context, options ...CallOption) (api.Counter, error) {
	return c.cache.api.GetCounter(ctx, c.cache.name, c.name, options...)
}

// Set gives the counter a value. It keeps its deadline, unless ttl is not 0.
func (c Counter) Set(ctx context.Context, value int64, ttl time.Duration, options ...CallOption) (api.Counter, error) {
	req := api.SetCounterRequest{Value: api.Int(value), TTL: given(api.Duration(ttl))}
	return c.cache.api.SetCounter(ctx, c.cache.name, c.name, req, options...)
}

// Reset sets the counter to 0, and returns it as it was. No addition is lost between the two.
func (c Counter) Reset(ctx context.Context, options ...CallOption) (api.Counter, error) {
	return c.cache.api.ResetCounter(ctx, c.cache.name, c.name, options...)
}

// Delete deletes the counter.
func (c Counter) Delete(ctx context.Context, options ...CallOption) error {
	return c.cache.api.DeleteCounter(ctx, c.cache.name, c.name, options...)
}
