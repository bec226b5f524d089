package snapshots

import "time"

// Hurry has a store try again at once.
func Hurry(t *Store) { t.pause = time.Millisecond }
