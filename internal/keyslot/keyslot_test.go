package keyslot

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotIsThatOfRedisCluster(t *testing.T) {
	// The slots are what CLUSTER KEYSLOT of redis-server 7.0 answers.
	tests := []struct {
		name, key string
		want      uint16
	}{
		{"a plain key", "foo", 12182},
		{"another", "bar", 5061},
		{"the check value of CRC-16/XMODEM", "123456789", 0x31c3},
		{"the empty key", "", 0},
		{"a hash tag", "{user1000}.following", 3443},
		{"the same tag elsewhere", "a{user1000}b", 3443},
		{"the tag alone", "user1000", 3443},
		{"an empty tag counts as none", "foo{}{bar}", 8363},
		{"the first tag counts", "foo{bar}{zap}", 5061},
		{"a tag that begins with a brace", "foo{{bar}}zap", 4015},
		{"a tag that is not closed", "foo{bar", 15278},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Of([]byte(tt.key)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestATagDecidesTheSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.SliceOfN(rapid.Byte().Filter(func(b byte) bool { return b != '}' }), 1, 20).Draw(t, "tag")
		before := rapid.SliceOf(rapid.Byte().Filter(func(b byte) bool { return b != '{' })).Draw(t, "before")
		after := rapid.SliceOf(rapid.Byte()).Draw(t, "after")
		key := bytes.Join([][]byte{before, {'{'}, tag, {'}'}, after}, nil)
		if want := crc16(tag) % Count; Of(key) != want {
			t.Fatalf("slot of %q is %d, its tag's is %d", key, Of(key), want)
		}
	})
}
