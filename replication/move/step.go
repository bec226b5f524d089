package move

import "github.com/larder-cache/larder/engine/tenure"

// A Step is the next thing that a driver does for a movement.
type Step uint8

// The steps, in the order of a movement that goes through.
const (
	Begin    Step = iota // at the target: a new attempt
	Offer                // at the source: the attempt is known, and what changes from now on is noted
	Copy                 // from source to target, while the source serves, until little is left
	Freeze               // at the source: nobody serves
	Drain                // from source to target: what is left
	Activate             // at the target: it serves
	Release              // at the source: it has nothing of the span any more, and tells who asks where it is
	Commit               // in the control store: the routing table says so
	Purge                // at the source: the data goes
	Clear                // in the control store: the movement is over

	Cancel   // at the target: it will not serve, unless it does already
	Withdraw // at the source: it serves on
	Forget   // at the target: what was staged goes
	Drop     // in the control store: the movement is over, and nothing has moved
)

var stepNames = [...]string{"begin", "offer", "copy", "freeze", "drain", "activate", "release", "commit", "purge", "clear", "cancel", "withdraw", "forget", "drop"}

func (s Step) String() string { return stepNames[s] }

// A Progress is what a driver knows of its movement. The zero value is what one knows that has just come to it: all else it
// learns from the two partitions, so a driver may die at any step, and another begin.
type Progress struct {
	Attempt   uint64 // that the target has begun for this driver; 0 for none
	Offered   bool   // the source knows it
	Copied    bool   // little is left
	Frozen    bool
	Drained   bool // nothing is left
	Passed    bool // the target serves
	Released  bool
	Purged    bool
	Cancelled bool
	Withdrawn bool
	Forgotten bool
}

// Next decides what comes next, given what the movement's record says.
func (p *Progress) Next(committed, abort bool) Step {
	switch {
	case (committed || p.Passed) && !p.Released:
		return Release
	case p.Passed && !committed:
		return Commit
	case committed && !p.Purged:
		return Purge
	case committed:
		return Clear
	case abort && !p.Cancelled:
		return Cancel
	case abort && !p.Withdrawn:
		return Withdraw
	case abort && !p.Forgotten:
		return Forget
	case abort:
		return Drop
	case p.Attempt == 0:
		return Begin
	case !p.Offered:
		return Offer
	case !p.Copied:
		return Copy
	case !p.Frozen:
		return Freeze
	case !p.Drained:
		return Drain
	}
	return Activate
}

// Thawed goes back to copying: the source was frozen, and draining it takes too long. The target has not been asked to activate
// this attempt, and will not be before the source is frozen again.
func (p *Progress) Thawed() { p.Copied, p.Frozen, p.Drained = false, false, false }

// Note takes what came of a step: the verdict of the partition that was asked. For Copy and Drain, Over says that the attempt
// has come to nothing: the source lost track of its changes, or the target of what was staged.
func (p *Progress) Note(s Step, v tenure.Verdict, attempt uint64) {
	switch {
	case v == tenure.Passed && (s == Begin || s == Activate || s == Cancel):
		*p = Progress{Passed: true}
	case v == tenure.Over && s == Release: // a source that knows nothing of it: it is asked as one that begins anew
		p.Released = true
	case v == tenure.Over:
		*p = Progress{}
	case s == Begin:
		*p = Progress{Attempt: attempt}
	case s == Offer:
		p.Offered = true
	case s == Copy:
		p.Copied = true
	case s == Freeze:
		p.Frozen = true
	case s == Drain:
		p.Drained = true
	case s == Activate:
		p.Passed = true
	case s == Release:
		p.Released = true
	case s == Purge:
		p.Purged = true
	case s == Cancel:
		p.Cancelled = true
	case s == Withdraw:
		p.Withdrawn = true
	case s == Forget:
		p.Forgotten = true
	}
}
