package snapshots

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A Schedule has snapshots of a cache made at certain times, and deleted when there are enough newer ones. It is decided on in one place
// of the cluster, and all that is decided stands in this record: whoever decides next goes on from there.
//
//	N1: Last never goes back; a time that is Last or before is never due again
//	N2: the snapshot that is Pending has an id that follows from its time: made once, whoever tries
type Schedule struct {
	Tenant   string        `json:"tenant"`
	TenantID string        `json:"tenant_id"`
	Cache    string        `json:"cache"`
	Name     string        `json:"name"`
	When     string        `json:"when"`
	Prefix   []byte        `json:"prefix,omitempty"`
	Keep     int           `json:"keep"`               // snapshots
	KeepFor  time.Duration `json:"keep_for,omitempty"` // 0 for ever
	Paused   bool          `json:"paused,omitempty"`
	Created  time.Time     `json:"created"`
	Last     time.Time     `json:"last"`             // the last time that was due
	Pending  time.Time     `json:"pending,omitzero"` // the time whose snapshot is not there yet
	Trouble  string        `json:"trouble,omitempty"`
}

func (c *Schedule) name() string { return c.Tenant + "/" + c.Cache + "/" + c.Name }

// Bounds of schedules.
const (
	MaxSchedules = 10 // of a cache
	MaxKeep      = MaxPerCache - 20
	DefaultKeep  = 7
	maxWhen      = 100 // bytes
	maxKeepFor   = 10 * 366 * 24 * time.Hour
	manyDue      = 10_000 // times that passed while nobody decided: of so many the last is found one by one
)

var (
	scheduleName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	dailyAt      = regexp.MustCompile(`^daily at ([01][0-9]|2[0-3]):([0-5][0-9])$`)
	cronFields   = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
)

// ParseWhen reads when snapshots are to be made: five fields of cron (minute, hour, day of the month, month, day of the week), @hourly and the like, or
// «daily at HH:MM». All times are UTC.
func ParseWhen(when string) (next func(after time.Time) time.Time, err error) {
	refuse := func(why string) error {
		return fault.About(fault.InvalidArgument, "snapshots.schedule", "when", "%s: when is \"daily at 03:30\", @hourly, @daily, @weekly or @monthly, or five fields of cron such as \"30 3 * * 1-5\", all in UTC", why)
	}
	text := when
	if m := dailyAt.FindStringSubmatch(when); m != nil {
		text = m[2] + " " + m[1] + " * * *"
	}
	if len(when) > maxWhen || strings.Contains(text, "TZ=") || strings.HasPrefix(text, "@every") || strings.TrimSpace(text) == "" {
		return nil, refuse(fmt.Sprintf("%.40q is not understood", when))
	}
	parsed, err := cronFields.Parse(text)
	if err != nil {
		return nil, refuse(err.Error())
	}
	next = func(after time.Time) time.Time { return parsed.Next(after.UTC()) }
	if next(time.Unix(0, 0)).IsZero() {
		return nil, refuse(fmt.Sprintf("%.40q never comes", when))
	}
	return next, nil
}

// Next is when the schedule is due next; zero while it is paused.
func (c *Schedule) Next() time.Time {
	next, err := ParseWhen(c.When)
	if err != nil || c.Paused {
		return time.Time{}
	}
	return next(c.Last)
}

// due returns the last of the times that have come since Last, zero for none. Those before it are left out: a snapshot of now would be
// the same as theirs.
func (c *Schedule) due(now time.Time) time.Time {
	next, err := ParseWhen(c.When)
	if err != nil || c.Paused {
		return time.Time{}
	}
	at := next(c.Last)
	if at.IsZero() || at.After(now) {
		return time.Time{}
	}
	for range manyDue {
		after := next(at)
		if after.IsZero() || after.After(now) {
			break
		}
		at = after
	}
	return at
}

// id is that of the snapshot of a time (N2).
func (c *Schedule) id(at time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", c.TenantID, c.Cache, c.Name, at.Unix()))
	return at.UTC().Format("20060102t150405") + "-" + hex.EncodeToString(sum[:4])
}

// check refuses what a schedule may not be.
func (c *Schedule) check() error {
	switch {
	case !scheduleName.MatchString(c.Name):
		return fault.About(fault.InvalidArgument, "snapshots.schedule", "name", "a schedule's name has 1 to 63 characters of a-z, 0-9, _ and -, and begins with a letter or digit")
	case c.Keep < 1 || c.Keep > MaxKeep:
		return fault.About(fault.OutOfRange, "snapshots.schedule", "keep", "a schedule keeps 1 to %d snapshots, not %d", MaxKeep, c.Keep)
	case c.KeepFor < 0 || c.KeepFor > maxKeepFor:
		return fault.About(fault.OutOfRange, "snapshots.schedule", "keep_for", "a schedule keeps snapshots for at most %v", maxKeepFor)
	case len(c.Prefix) > engine.MaxKey:
		return fault.About(fault.TooLarge, "snapshots.schedule", "prefix", "a prefix has at most %d bytes, this one has %d", engine.MaxKey, len(c.Prefix))
	}
	_, err := ParseWhen(c.When)
	return err
}

// PutSchedule makes a schedule, or changes what it says. made says which.
func (s *Service) PutSchedule(ctx context.Context, c Schedule) (now *Schedule, made bool, err error) {
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if err := c.check(); err != nil {
		return nil, false, err
	}
	c.Created = s.cfg.Now().UTC().Truncate(time.Millisecond)
	c.Last = c.Created
	if old, ok := s.schedules.Get(c.name()); ok && old.TenantID == c.TenantID {
		now, err = s.schedules.Update(ctx, c.name(), func(old *Schedule) error {
			if old.When != c.When || old.Paused && !c.Paused {
				old.Last = c.Last // it is not due for what it has not been told of
			}
			old.When, old.Prefix, old.Keep, old.KeepFor, old.Paused = c.When, c.Prefix, c.Keep, c.KeepFor, c.Paused
			return nil
		})
		return now, false, err
	}
	if list := s.Schedules(c.Tenant, c.TenantID, c.Cache); len(list) >= MaxSchedules {
		return nil, false, fault.New(fault.Conflict, "snapshots.schedule", "a cache has at most %d schedules", MaxSchedules)
	}
	if err := s.schedules.Put(ctx, c.name(), &c); err != nil { // over one of a tenant that had the name before
		return nil, false, err
	}
	return &c, true, nil
}

// Schedules lists the schedules of a cache, by name.
func (s *Service) Schedules(tenant, tenantID, cache string) (own []*Schedule) {
	all, _ := s.schedules.List(tenant+"/"+cache+"/", "", 0)
	for _, c := range all {
		if c.TenantID == tenantID {
			own = append(own, c)
		}
	}
	return own
}

// Schedule finds a schedule.
func (s *Service) Schedule(tenant, tenantID, cache, name string) (*Schedule, error) {
	c, ok := s.schedules.Get(tenant + "/" + cache + "/" + name)
	if !ok || c.TenantID != tenantID {
		return nil, fault.About(fault.NotFound, "snapshots.schedule", "name", "the cache %q has no schedule %.80q", cache, name)
	}
	return c, nil
}

// DeleteSchedule removes a schedule. The snapshots that were made by it stay.
func (s *Service) DeleteSchedule(ctx context.Context, c *Schedule) error {
	return s.schedules.Delete(ctx, c.name())
}

// Lag is for how long the snapshot that is overdue the longest has been due.
func (s *Service) Lag() (lag time.Duration) {
	now := s.cfg.Now()
	all, _ := s.schedules.List("", "", 0)
	for _, c := range all {
		if !c.Pending.IsZero() {
			lag = max(lag, now.Sub(c.Pending))
		}
	}
	return lag
}
