// Package snapshots keeps one cache as an encrypted, checked stream, and brings it back.
package snapshots

import (
	_ "gocloud.dev/blob/fileblob" // file://
)
