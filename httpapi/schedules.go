package httpapi

import (
	"net/http"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/snapshots"
)

func (a *API) scheduleRoutes() []route {
	const all, one = "/v1/caches/:cache/snapshot-schedules", "/v1/caches/:cache/snapshot-schedules/:name"
	return []route{
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listSchedules},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).describeSchedule},
		{method: http.MethodPut, path: one, manage: true, serve: (*exchange).putSchedule},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteSchedule},
	}
}

// SnapshotSchedule has snapshots of a cache made at certain times, and deleted when there are enough newer ones.
type SnapshotSchedule struct {
	Name      string  `json:"name" example:"nightly"`
	When      string  `json:"when" example:"daily at 03:30"` // in UTC
	Prefix    string  `json:"prefix,omitempty" example:""`   // only keys that begin so
	Keep      int     `json:"keep" example:"7"`              // how many of its snapshots are kept
	KeepFor   *string `json:"keep_for" example:"30d"`        // and for how long, but for the newest; null: for ever
	Paused    bool    `json:"paused" example:"false"`
	CreatedAt string  `json:"created_at" example:"2026-11-27T08:15:00.000Z"`
	Next      *string `json:"next" example:"2026-11-28T03:30:00.000Z"`      // null while it is paused
	Due       *string `json:"due_since" example:"2026-11-27T03:30:00.000Z"` // of the snapshot that is being made or tried; null: none
	Problem   string  `json:"problem,omitempty" example:""`                 // why the last one is late or failed
}

func showSchedule(c *snapshots.Schedule) SnapshotSchedule {
	shown := SnapshotSchedule{
		Name: c.Name, When: c.When, Prefix: string(c.Prefix), Keep: c.Keep, Paused: c.Paused, CreatedAt: showTime(c.Created), Problem: c.Trouble,
		Next: showSome(c.Next()), Due: showSome(c.Pending),
	}
	if c.KeepFor > 0 {
		text := formatDuration(c.KeepFor.Milliseconds())
		shown.KeepFor = &text
	}
	return shown
}

// showSome writes a time, null for none.
func showSome(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := showTime(t)
	return &text
}

// PutScheduleRequest says when snapshots are made, and which are kept.
type PutScheduleRequest struct {
	When    string `json:"when" maxLength:"100" example:"daily at 03:30"`                   // "daily at HH:MM", @hourly, @daily, @weekly, @monthly or five fields of cron, in UTC
	Prefix  string `json:"prefix,omitempty" maxLength:"32768" example:""`                   // only keys that begin so; empty: all
	Keep    int    `json:"keep,omitempty" minimum:"1" maximum:"80" default:"7" example:"7"` // how many of its snapshots are kept
	KeepFor string `json:"keep_for,omitempty" maxLength:"32" example:"30d"`                 // and for how long, but for the newest; empty: for ever
	Paused  bool   `json:"paused,omitempty" example:"false"`
}

// putSchedule serves PUT /v1/caches/:cache/snapshot-schedules/:name.
//
// @Summary     Make a schedule of snapshots, or change it
// @Description All of it is replaced. A snapshot that cannot be made when it is due is made as soon as it can be; of several that were missed the last one is.
// @Tags        snapshots
// @Param       request body PutScheduleRequest true "when, and which are kept"
// @Success     200 {object} SnapshotSchedule "changed"
// @Success     201 {object} SnapshotSchedule "made"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshot-schedules/{name} [put]
func (x *exchange) putSchedule() error {
	var req PutScheduleRequest
	if err := x.read(&req); err != nil {
		return err
	}
	for _, action := range [...]policy.Action{policy.SnapshotCreate, policy.SnapshotDelete} { // it deletes as well
		if err := x.mayOnSnapshot(action, "*"); err != nil {
			return err
		}
	}
	c, ok := x.api.Accounts.Cache(x.who().Tenant, x.cache())
	if !ok {
		return fault.About(fault.NotFound, "caches", "cache", "no cache %q", x.cache())
	}
	want := snapshots.Schedule{
		Tenant: c.Tenant, TenantID: string(c.TenantID), Cache: c.Name, Name: x.Param("name"), When: req.When, Prefix: []byte(req.Prefix), Keep: req.Keep, Paused: req.Paused,
	}
	if req.KeepFor != "" {
		ms, err := parseDuration("keep_for", req.KeepFor)
		if err != nil {
			return err
		}
		want.KeepFor = time.Duration(ms) * time.Millisecond
	}
	now, made, err := x.api.Snapshots.PutSchedule(x.Request().Context(), want)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return x.json(status, showSchedule(now))
}

// schedule finds the schedule of the path.
func (x *exchange) schedule(action policy.Action) (*snapshots.Schedule, error) {
	if err := x.query().end(); err != nil {
		return nil, err
	}
	if err := x.mayOnSnapshot(action, "*"); err != nil {
		return nil, err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return nil, err
	}
	return x.api.Snapshots.Schedule(x.who().Tenant, tenant, x.cache(), x.Param("name"))
}

// SnapshotScheduleList is all schedules of a cache.
type SnapshotScheduleList struct {
	Schedules []SnapshotSchedule `json:"schedules"`
}

// listSchedules serves GET /v1/caches/:cache/snapshot-schedules.
//
// @Summary     List the schedules of a cache's snapshots
// @Tags        snapshots
// @Success     200 {object} SnapshotScheduleList
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshot-schedules [get]
func (x *exchange) listSchedules() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.mayOnSnapshot(policy.SnapshotList, "*"); err != nil {
		return err
	}
	tenant, err := x.tenantID()
	if err != nil {
		return err
	}
	list := SnapshotScheduleList{Schedules: []SnapshotSchedule{}}
	for _, c := range x.api.Snapshots.Schedules(x.who().Tenant, tenant, x.cache()) {
		list.Schedules = append(list.Schedules, showSchedule(c))
	}
	return x.json(http.StatusOK, list)
}

// describeSchedule serves GET /v1/caches/:cache/snapshot-schedules/:name.
//
// @Summary     Describe a schedule of snapshots
// @Tags        snapshots
// @Success     200 {object} SnapshotSchedule
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshot-schedules/{name} [get]
func (x *exchange) describeSchedule() error {
	c, err := x.schedule(policy.SnapshotDescribe)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showSchedule(c))
}

// deleteSchedule serves DELETE /v1/caches/:cache/snapshot-schedules/:name.
//
// @Summary     Delete a schedule of snapshots
// @Description The snapshots that were made by it stay.
// @Tags        snapshots
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/snapshot-schedules/{name} [delete]
func (x *exchange) deleteSchedule() error {
	c, err := x.schedule(policy.SnapshotDelete)
	if err != nil {
		return err
	}
	if err := x.api.Snapshots.DeleteSchedule(x.Request().Context(), c); err != nil {
		return err
	}
	return x.noContent()
}
