package httpapi

import (
	"net/http"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// maxBatch is how many operations one request may hold.
const maxBatch = 10_000

// checkName bounds a name or key that came in a body.
func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return fault.About(fault.InvalidArgument, "httpapi.name", "name", "a name or key is empty")
	case len(name) > engine.MaxKey:
		return fault.About(fault.TooLarge, "httpapi.name", "name", "max key size exceeded. Limit: %d bytes, Actual: %d bytes", engine.MaxKey, len(name))
	}
	return nil
}

// Result is what became of one operation of several: a result, or an error.
type Result struct {
	Result any          `json:"result,omitzero" swaggertype:"object"`
	Error  *ResultError `json:"error,omitempty"`
}

// ResultError says why one operation of several failed.
type ResultError struct {
	Code     string `json:"code" example:"wrong_type"`
	Message  string `json:"message" example:"Operation against a key holding the wrong kind of value"`
	Argument string `json:"argument,omitempty" example:"by"`
}

// Results answers several operations, in their order.
type Results struct {
	Results []Result `json:"results"`
}

// An abortedBatch is an atomic request in which an operation failed, and so none was done.
type abortedBatch struct {
	*fault.Error
	results []any
}

func (b *abortedBatch) Unwrap() error { return b.Error }

// answerAll asks for all the commands that were added and answers with one result for each: read makes that
// of the reply to command i. Where one command fails, only its own result is an error, unless all must be
// done or none: then the whole request is.
func (x *exchange) answerAll(atomic bool, read func(i int, c *engine.Cursor) (any, error)) error {
	x.request.Atomic = atomic
	c, err := x.do()
	if err != nil {
		return err
	}
	if failed := x.request.Failed; failed >= 0 {
		for range failed {
			c.Skip()
		}
		return x.aborted(failed, c.Next().Err)
	}
	results := make([]Result, len(x.calls))
	for i := range results {
		rest := c
		rest.Skip()
		value, err := read(i, &c)
		if err != nil {
			results[i].Error = resultError(fault.From(err))
		} else {
			results[i].Result = value
		}
		c = rest
	}
	return x.json(http.StatusOK, Results{results})
}

func resultError(e *fault.Error) *ResultError {
	return &ResultError{Code: e.Kind.Face().Code, Message: e.Message, Argument: e.Argument}
}

// aborted is the answer to an atomic request whose operation i failed.
func (x *exchange) aborted(i int, cause *fault.Error) error {
	results := make([]any, len(x.calls))
	for n := range results {
		results[n] = Result{Error: &ResultError{Code: fault.Aborted.Face().Code, Message: "not done, because another operation of the atomic batch failed"}}
	}
	results[i] = Result{Error: resultError(cause)}
	return &abortedBatch{fault.New(fault.Aborted, "httpapi.batch", "nothing was done: operation %d failed: %s", i, cause.Message), results}
}
