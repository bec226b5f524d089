package larder

import (
	"context"
	"encoding/json"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A Batch is operations that are sent together, at most 10,000, and done in their order. It is not for several
// goroutines at once.
//
//	results, err := cache.Batch().Set("greeting", "hello", time.Hour).Add("page-views", 1).Do(ctx)
type Batch struct {
	cache      Cache
	operations []api.JSON
	err        error
}

// Batch begins a batch.
func (c Cache) Batch() *Batch { return &Batch{cache: c} }

// A Result is what became of one operation.
type Result struct {
	Data json.RawMessage // what it answered, as JSON
	Err  error           // an *Error that has a code, a detail and an argument
}

// Decode reads what the operation answered into v; its error if it failed.
func (r Result) Decode(v any) error {
	if r.Err != nil {
		return r.Err
	}
	return json.Unmarshal(r.Data, v)
}

// Set stores a value; for how long is the cache's default if ttl is 0.
func (b *Batch) Set(key, value string, ttl time.Duration) *Batch {
	args := map[string]any{"key": api.Bytes(key), "value": api.Bytes(value)}
	if ttl != 0 {
		args["ttl"] = api.Duration(ttl)
	}
	return b.Operation("kv.put", args)
}

// Get reads a value; its result decodes into an api.KeyValue.
func (b *Batch) Get(key string) *Batch {
	return b.Operation("kv.get", map[string]any{"key": api.Bytes(key)})
}

// Delete deletes a key.
func (b *Batch) Delete(key string) *Batch {
	return b.Operation("kv.delete", map[string]any{"key": api.Bytes(key)})
}

// Add adds to a counter; its result decodes into an api.Counter.
func (b *Batch) Add(counter string, by int64) *Batch {
	return b.Operation("counters.add", map[string]any{"name": api.Bytes(counter), "by": api.Int(by)})
}

// Put gives a member of a leaderboard a score.
func (b *Batch) Put(leaderboard, member string, score float64, mode Mode) *Batch {
	members := []api.MemberScore{{Member: api.Bytes(member), Score: api.Score(score)}}
	args := map[string]any{"name": api.Bytes(leaderboard), "members": members}
	if mode != "" {
		args["mode"] = mode
	}
	return b.Operation("leaderboards.put", args)
}

// Operation adds any operation by its name, with what it takes: see the schema Operation of the API.
func (b *Batch) Operation(op string, args map[string]any) *Batch {
	with := map[string]any{"op": op}
	for name, value := range args {
		with[name] = value
	}
	text, err := encode(with)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.operations = append(b.operations, text)
	return b
}

// Do sends the batch. Where one operation fails only its own result has an error; the error of Do is about
// all of them.
func (b *Batch) Do(ctx context.Context, options ...CallOption) ([]Result, error) {
	return b.send(ctx, false, options)
}

// DoAtomic sends the batch to be done as a whole or not at all, and with nothing of others in between. Where
// one operation fails none is done, and the error is ErrAborted with the Results that tell which one it was.
func (b *Batch) DoAtomic(ctx context.Context, options ...CallOption) ([]Result, error) {
	return b.send(ctx, true, options)
}

func (b *Batch) send(ctx context.Context, atomic bool, options []CallOption) ([]Result, error) {
	if b.err != nil {
		return nil, b.err
	}
	answer, err := b.cache.api.RunBatch(ctx, b.cache.name, api.BatchRequest{Operations: b.operations, Atomic: &atomic}, options...)
	return resultsOf(answer), err
}

// Do runs one command of the command table, such as Do(ctx, "ZADD", "board", 12.5, "ann"). Its arguments are
// strings, []byte, numbers, true and false.
func (c Cache) Do(ctx context.Context, args ...any) (json.RawMessage, error) {
	results, err := c.Commands(ctx, false, args)
	if err != nil {
		return nil, err
	}
	return results[0].Data, results[0].Err
}

// Commands runs commands in their order, each with its own result; if atomic, all or none.
func (c Cache) Commands(ctx context.Context, atomic bool, commands ...[]any) ([]Result, error) {
	req := api.CommandsRequest{Commands: make([]api.CommandText, len(commands)), Atomic: &atomic}
	for i, args := range commands {
		req.Commands[i] = args
	}
	answer, err := c.api.RunCommands(ctx, c.name, req)
	if err == nil && len(answer.Results) != len(commands) {
		err = &Error{Code: ErrInternal, Detail: "the answer has not one result for each command"}
	}
	return resultsOf(answer), err
}

func resultsOf(answer api.Results) []Result {
	results := make([]Result, len(answer.Results))
	for i, r := range answer.Results {
		switch {
		case r.Result != nil:
			results[i].Data = *r.Result
		case r.Error == nil:
			results[i].Data = json.RawMessage("null")
		}
		if r.Error != nil {
			e := &Error{Code: api.Code(r.Error.Code), Detail: r.Error.Message}
			if r.Error.Argument != nil {
				e.Argument = *r.Error.Argument
			}
			results[i].Err = e
		}
	}
	return results
}
