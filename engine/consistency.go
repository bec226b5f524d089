package engine

// Consistency is how current the answer of a task that only reads has to be, or was. The engine has one state and looks at
// none of it: whoever chooses the replica that is asked does.
type Consistency uint8

// The levels, from the strictest to the loosest. DefaultConsistency stands for what the cache says, and in an answer for
// Linearizable: it is all that a partition with one replica can be.
const (
	DefaultConsistency Consistency = iota
	Linearizable                   // as if there were one replica: what was acknowledged before is seen
	Leader                         // what the leader has, without asking whether it still leads
	Eventual                       // what some replica has
)

var consistencies = [...]string{"", "linearizable", "leader", "eventual"}

// String is the level's name, "" for the default.
func (c Consistency) String() string { return consistencies[c] }

// ParseConsistency finds a level by its name.
func ParseConsistency(name string) (Consistency, bool) {
	for i, n := range consistencies[1:] {
		if n == name {
			return Consistency(i + 1), true
		}
	}
	return 0, false
}

// Consistencies lists the names of the levels.
func Consistencies() []string { return consistencies[1:] }

// Answered notes what an answer, or a part of one, was: of several parts the loosest counts.
func (t *Task) Answered(was Consistency, ageMs int64) {
	t.Was, t.AgeMs = max(t.Was, was), max(t.AgeMs, ageMs)
}
