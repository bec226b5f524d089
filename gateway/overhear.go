package gateway

import (
	"strings"

	"github.com/larder-cache/larder/engine"
)

// Overhear has told called for each message that clients publish in a cache, on any node, until stop is called. told must not wait. Notifications of
// keys are no clients' messages, and those of shards reach no pattern.
func (h *Hub) Overhear(id engine.CacheID, told func(channel, message []byte)) (stop func(), err error) {
	const all = "*"
	o := &overhearer{told}
	if err := h.Subscribe(id, Pattern, all, o); err != nil {
		return nil, err
	}
	return func() { h.Unsubscribe(id, Pattern, all, o) }, nil
}

type overhearer struct{ told func(channel, message []byte) }

// Receive implements Receiver.
func (o *overhearer) Receive(m *Message) {
	if !strings.HasPrefix(m.Channel, "__keyspace@") && !strings.HasPrefix(m.Channel, "__keyevent@") {
		o.told([]byte(m.Channel), m.Payload)
	}
}
