package main

import (
	"os"
	"runtime"
	"runtime/pprof"
)

// profileLarder writes CPU profiles of the timed loops, the making of keys left out as far as it can be: most of
// what stands there under fill is not Larder's.
func profileLarder(n int, name string) error {
	runtime.GOMAXPROCS(1)
	b := &storeBench{job: job{Name: "Larder", N: n}, keys: make([]byte, batch*keySize), gets: newWalk(n, 1000), sets: newWalk(n, 2000)}
	b.load(&histogram{}, &histogram{})
	for _, do := range []string{"get", "set"} {
		f, err := os.Create(name + "." + do)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		s := b.speed(do == "get", 2000*batch, false)
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return err
		}
		note("%s: %.0f ns, %.2f allocations", do, s.Nanoseconds, s.Allocations)
	}
	return nil
}
