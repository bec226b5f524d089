package httpapi

import (
	"net/http"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) counterRoutes() []route {
	const all, one = "/v1/caches/:cache/counters", "/v1/caches/:cache/counters/:name"
	return []route{
		{method: http.MethodPost, path: all, serve: (*exchange).addCounters},
		{method: http.MethodPost, path: one, serve: (*exchange).addCounter},
		{method: http.MethodGet, path: one, serve: (*exchange).getCounter},
		{method: http.MethodPut, path: one, serve: (*exchange).setCounter},
		{method: http.MethodDelete, path: one, serve: (*exchange).deleteCounter},
		{method: http.MethodPost, path: one + "/reset", serve: (*exchange).resetCounter},
	}
}

var (
	cmdCounterAdd   = engine.MustLookup("COUNTER.ADD")
	cmdCounterGet   = engine.MustLookup("COUNTER.GET")
	cmdCounterSet   = engine.MustLookup("COUNTER.SET")
	cmdCounterReset = engine.MustLookup("COUNTER.RESET")
	cmdCounterDel   = engine.MustLookup("COUNTER.DEL")
)

var errNoCounter = fault.New(fault.NotFound, "counters", "there is no such counter, or it has expired")

// counterNames says what the arguments of the COUNTER commands are called here.
var counterNames = map[string]string{"MIN": "min", "MAX": "max", "PX": "ttl"}

// Counter is a counter as every route shows it.
type Counter struct {
	Name  Bytes  `json:"name" swaggertype:"string" example:"page-views"`
	Value Number `json:"value" swaggertype:"integer" example:"42"` // a string beyond 2^53; with a fraction once one was added
	TTLMs *int64 `json:"ttl_ms" example:"3600000"`                 // null when it does not expire
}

// AddCounterRequest adds to a counter, which begins at 0.
type AddCounterRequest struct {
	By       *Number  `json:"by,omitempty" swaggertype:"integer" example:"5" default:"1"` // may be negative or have a fraction
	TTL      Duration `json:"ttl,omitzero" swaggertype:"string" example:"1h"`             // how long a counter lives that this call creates
	Min      *Number  `json:"min,omitempty" swaggertype:"integer" example:"0"`
	Max      *Number  `json:"max,omitempty" swaggertype:"integer" example:"100"`
	Overflow string   `json:"overflow,omitempty" enums:"reject,saturate" example:"reject"` // at min, max or the end of 64 bits
}

// args are the request as COUNTER.ADD takes it.
func (r *AddCounterRequest) args(name []byte) ([][]byte, error) {
	by := Number{Int: 1}
	if r.By != nil {
		by = *r.By
	}
	args := [][]byte{name, by.text()}
	if r.TTL.Set {
		args = append(args, []byte("PX"), integer(r.TTL.Ms))
	}
	if r.Min != nil {
		args = append(args, []byte("MIN"), r.Min.text())
	}
	if r.Max != nil {
		args = append(args, []byte("MAX"), r.Max.text())
	}
	switch r.Overflow {
	case "":
	case "reject":
		args = append(args, []byte("OVERFLOW"), []byte("REJECT"))
	case "saturate":
		args = append(args, []byte("OVERFLOW"), []byte("SATURATE"))
	default:
		return nil, fault.About(fault.InvalidArgument, "counters.add", "overflow", "overflow is reject or saturate, not %.100q", r.Overflow)
	}
	return args, nil
}

// readCounter reads the answer of any COUNTER command that shows the counter.
func readCounter(c *engine.Cursor, name []byte) (Counter, error) {
	t := c.Next()
	switch t.Kind {
	case engine.ReplyError:
		return Counter{}, renamed(t.Err, counterNames)
	case engine.ReplyArray:
	default:
		return Counter{}, errNoCounter
	}
	counter := Counter{Name: name}
	if v := c.Next(); v.Kind == engine.ReplyDouble {
		counter.Value = Number{Float: v.Float, IsFloat: true}
	} else {
		counter.Value = Number{Int: v.Int}
	}
	counter.TTLMs = ttlOrNull(c.Next().Int)
	return counter, nil
}

// answerCounter asks for the command that was added and answers with the counter.
func (x *exchange) answerCounter(name []byte) error {
	c, err := x.do()
	if err != nil {
		return renamed(err, counterNames)
	}
	counter, err := readCounter(&c, name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, counter)
}

// addCounter serves POST /v1/caches/:cache/counters/:name.
//
// @Summary     Add to a counter
// @Description A counter begins at 0. Beyond its bounds, or beyond 64 bits, the addition is refused and the counter left as it is, or stops there with "overflow":"saturate".
// @Tags        counters
// @Param       request body AddCounterRequest false "what to add; 1 if nothing is said"
// @Success     200 {object} Counter
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters/{name} [post]
func (x *exchange) addCounter() error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	var req AddCounterRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdCounterAdd, args...)
	return x.answerCounter(name)
}

// AddCountersRequest adds to several counters.
type AddCountersRequest struct {
	Atomic   bool              `json:"atomic,omitempty" example:"true"` // all or none
	Counters []NamedCounterAdd `json:"counters" minItems:"1" maxItems:"10000"`
}

// NamedCounterAdd is an addition with the counter's name.
type NamedCounterAdd struct {
	Name Bytes `json:"name" swaggertype:"string" example:"page-views"`
	AddCounterRequest
}

// namedArgs are the request as COUNTER.ADD takes it.
func (r *NamedCounterAdd) namedArgs() ([][]byte, error) {
	if err := checkName("name", r.Name); err != nil {
		return nil, err
	}
	return r.args(r.Name)
}

// addCounters serves POST /v1/caches/:cache/counters.
//
// @Summary     Add to several counters
// @Description Each addition has its own result, in order; with "atomic", one that fails undoes all.
// @Tags        counters
// @Param       request body AddCountersRequest true "the additions"
// @Success     200 {object} Results
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters [post]
func (x *exchange) addCounters() error {
	if err := x.query().end(); err != nil {
		return err
	}
	var req AddCountersRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	if err := checkBatch("counters", len(req.Counters)); err != nil {
		return err
	}
	for i := range req.Counters {
		args, err := req.Counters[i].namedArgs()
		if err != nil {
			return inElement("counters", i, err)
		}
		x.add(cmdCounterAdd, args...)
	}
	return x.answerAll(req.Atomic, func(i int, c *engine.Cursor) (any, error) {
		return readCounter(c, req.Counters[i].Name)
	})
}

// getCounter serves GET /v1/caches/:cache/counters/:name.
//
// @Summary     Read a counter
// @Tags        counters
// @Success     200 {object} Counter
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters/{name} [get]
func (x *exchange) getCounter() error { return x.counterCommand(cmdCounterGet) }

// resetCounter serves POST /v1/caches/:cache/counters/:name/reset: get and reset in one step.
//
// @Summary     Read a counter and set it to 0
// @Description One step: no addition is lost between the two. The deadline stays.
// @Tags        counters
// @Success     200 {object} Counter
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters/{name}/reset [post]
func (x *exchange) resetCounter() error { return x.counterCommand(cmdCounterReset) }

func (x *exchange) counterCommand(c *engine.Command) error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	x.add(c, name)
	return x.answerCounter(name)
}

// SetCounterRequest gives a counter a value.
type SetCounterRequest struct {
	Value *Number  `json:"value" swaggertype:"integer" example:"42"`
	TTL   Duration `json:"ttl,omitzero" swaggertype:"string" example:"1h"` // without it the counter keeps the deadline it has
}

// args are the request as COUNTER.SET takes it.
func (r *SetCounterRequest) args(name []byte) ([][]byte, error) {
	switch {
	case r.Value == nil:
		return nil, fault.About(fault.InvalidArgument, "counters.set", "value", "value is missing")
	case r.TTL.Set:
		return [][]byte{name, r.Value.text(), []byte("PX"), integer(r.TTL.Ms)}, nil
	default:
		return [][]byte{name, r.Value.text(), []byte("KEEPTTL")}, nil
	}
}

// setCounter serves PUT /v1/caches/:cache/counters/:name.
//
// @Summary     Set a counter
// @Tags        counters
// @Param       request body SetCounterRequest true "its value"
// @Success     200 {object} Counter
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters/{name} [put]
func (x *exchange) setCounter() error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	var req SetCounterRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	args, err := req.args(name)
	if err != nil {
		return err
	}
	x.add(cmdCounterSet, args...)
	return x.answerCounter(name)
}

// deleteCounter serves DELETE /v1/caches/:cache/counters/:name.
//
// @Summary     Delete a counter
// @Tags        counters
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/counters/{name} [delete]
func (x *exchange) deleteCounter() error {
	name, err := x.pathBytes("name")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	x.add(cmdCounterDel, name)
	return x.noContentUnlessZero(errNoCounter)
}
