package eviction

// Age is how many ticks of the policy's clock ago an item was used last, by its note; of an item that nothing is known
// of, more than of any other.
func (p *Policy) Age(old uint32) uint32 {
	n := note(old)
	if n.segment() == none {
		return maxStamp + 1
	}
	return age(n.stamp(), p.clock)
}
