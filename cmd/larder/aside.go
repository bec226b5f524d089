package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/larder-cache/larder/internal/aside"
	"github.com/larder-cache/larder/snapshots"
)

// asideVerb is what this program is called with for what is done beside a server, see package aside. It is not for people.
const asideVerb = "aside-of-a-server"

// asides starts such processes; nil where this program is another one, as in tests.
var asides aside.Starter

// beAside does the work, if this process is for that, and does not return then.
func beAside() {
	if len(os.Args) != 2 || os.Args[1] != asideVerb {
		asides = aside.Program(asideVerb)
		return
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // its server has heard that, too, and ends it
	if err := aside.Main(snapshots.Errand, 1); err != nil {
		os.Exit(exitFailed)
	}
	os.Exit(exitDone)
}
