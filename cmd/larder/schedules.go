package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/sdk/api"
)

func scheduleCommand() *cobra.Command {
	var when, prefix, keepFor string
	var keep int
	var paused, yes bool
	return verbs("schedule", "Snapshots of a cache at certain times: set, look at, delete",
		verb{
			use: "set CACHE NAME", short: "Make a schedule, or replace one", args: cobra.ExactArgs(2),
			example: "  larder schedule set main nightly --when \"daily at 03:30\" --keep 7\n  larder schedule set main hourly --when \"0 * * * *\" --keep 24 --keep-for 2d",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&when, "when", "", "\"daily at HH:MM\", @hourly, @daily, @weekly, @monthly or five fields of cron, in UTC")
				f.IntVar(&keep, "keep", 7, "how many of its snapshots are kept, 1 to 80")
				f.StringVar(&keepFor, "keep-for", "", "and for how long, such as 30d, but for the newest; empty: for ever")
				f.StringVar(&prefix, "prefix", "", "only keys that begin so")
				f.BoolVar(&paused, "paused", false, "it makes none for the time being")
			},
			run: func(c *call) error {
				s, err := c.api.PutSchedule(c.ctx, c.args[0], c.args[1], api.PutScheduleRequest{
					When: when, Keep: new(int64(keep)), KeepFor: given(c, "keep-for", keepFor), Prefix: given(c, "prefix", prefix), Paused: given(c, "paused", paused),
				})
				if err != nil {
					return err
				}
				return showSchedule(c, s)
			},
		},
		verb{
			use: "list CACHE", short: "List the schedules of a cache", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				l, err := c.api.ListSchedules(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return tabulate(c, "NAME WHEN KEEP KEEP_FOR NEXT DUE_SINCE PROBLEM", l.Schedules, func(s api.SnapshotSchedule) []any {
					return []any{s.Name, s.When, s.Keep, s.KeepFor, s.Next, s.DueSince, s.Problem}
				})
			},
		},
		verb{
			use: "show CACHE NAME", short: "Show a schedule", args: cobra.ExactArgs(2),
			run: func(c *call) error {
				s, err := c.api.DescribeSchedule(c.ctx, c.args[0], c.args[1])
				if err != nil {
					return err
				}
				return showSchedule(c, s)
			},
		},
		verb{
			use: "delete CACHE NAME", short: "Delete a schedule; its snapshots stay", args: cobra.ExactArgs(2), flags: yesFlag(&yes),
			run: func(c *call) error {
				if err := confirm(c.Command, yes, "Delete the schedule %q of the cache %q?", c.args[1], c.args[0]); err != nil {
					return err
				}
				if err := c.api.DeleteSchedule(c.ctx, c.args[0], c.args[1]); err != nil {
					return err
				}
				return c.done("The schedule %s is deleted.", c.args[1])
			},
		},
	)
}

func showSchedule(c *call, s api.SnapshotSchedule) error {
	return c.show(s, field{"name", s.Name}, field{"when", s.When}, field{"prefix", s.Prefix}, field{"keep", s.Keep}, field{"keep for", s.KeepFor},
		field{"paused", s.Paused}, field{"next", s.Next}, field{"due since", s.DueSince}, field{"problem", s.Problem}, field{"created", s.CreatedAt})
}

func encryptionCommand() *cobra.Command {
	var retire, yes bool
	var wait string
	return verbs("encryption", "The key that snapshots are encrypted with: look at, rotate, rewrap, shred",
		verb{
			use: "show", short: "Show what is known of the key", args: cobra.NoArgs,
			run: func(c *call) error {
				k, err := c.api.DescribeEncryptionKey(c.ctx)
				if err != nil {
					return err
				}
				return showKeyInfo(c, k)
			},
		},
		verb{
			use: "rotate", short: "Give the key a new version, which encrypts from now on", args: cobra.NoArgs,
			run: func(c *call) error {
				k, err := c.api.RotateEncryptionKey(c.ctx)
				if err != nil {
					return err
				}
				return showKeyInfo(c, k)
			},
		},
		verb{
			use: "rewrap", short: "Have the newest version wrap the data keys of all snapshots", args: cobra.NoArgs,
			long: `
Have the newest version of the key wrap the data keys of all snapshots, which are not touched otherwise. With --retire older versions
are destroyed afterwards: files of older snapshots that were downloaded cannot be read by anybody then.`,
			flags: func(f *pflag.FlagSet) { f.BoolVar(&retire, "retire", false, "destroy older versions afterwards") },
			run: func(c *call) error {
				r, err := c.api.RewrapSnapshots(c.ctx, api.RewrapRequest{Retire: &retire})
				if err != nil {
					return err
				}
				return c.done("The data keys of %d snapshots are wrapped anew.", r.Rewrapped)
			},
		},
		verb{
			use: "shred TENANT", short: "Make all snapshots of the tenant unreadable, for ever", args: cobra.ExactArgs(1),
			long: `
Make all snapshots of the tenant unreadable, at once and everywhere, copies of the files included. TENANT is its name, to confirm it. The key is
destroyed after a while; until then "larder encryption unshred" takes it back.`,
			flags: func(f *pflag.FlagSet) {
				yesFlag(&yes)(f)
				f.StringVar(&wait, "wait", "7d", "until the key is destroyed; 0s: at once")
			},
			run: func(c *call) error {
				if err := confirm(c.Command, yes, "Make all snapshots of %q unreadable?", c.args[0]); err != nil {
					return err
				}
				k, err := c.api.ShredEncryptionKey(c.ctx, api.ShredRequest{Confirm: c.args[0], Wait: &wait})
				if err != nil {
					return err
				}
				return showKeyInfo(c, k)
			},
		},
		verb{
			use: "unshred", short: "Take back that the key is shredded, as long as it is not destroyed", args: cobra.NoArgs,
			run: func(c *call) error {
				if err := c.api.UnshredEncryptionKey(c.ctx); err != nil {
					return err
				}
				return c.done("The snapshots are readable again.")
			},
		},
		verb{
			use: "rotate-master", short: "Have the newest master key wrap the keys of all tenants", args: cobra.NoArgs, operator: true,
			long: `
Have the newest master key wrap the keys of all tenants. Where the master key is a file, it gets a new key first, on all nodes: back the
file up again. One that is in a key management service is rotated there.`,
			run: func(c *call) error {
				r, err := c.api.RotateMasterKey(c.ctx)
				if err != nil {
					return err
				}
				return c.done("The keys of %d tenants are wrapped by the newest master key.", r.Rewrapped)
			},
		},
	)
}

func showKeyInfo(c *call, k api.EncryptionKey) error {
	return c.show(k, field{"id", k.ID}, field{"made", k.MadeAt}, field{"versions", k.Versions}, field{"master key", k.MasterKey}, field{"stale snapshots", k.StaleSnapshots},
		field{"shredded", k.ShreddedAt}, field{"destroyed at", k.DestroyAt}, field{"destroyed", k.DestroyedAt})
}
