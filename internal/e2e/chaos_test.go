package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A cluster under a few faults: what its clients saw is linearizable, and nothing is lost that was acknowledged. The program
// does hundreds of them when it is asked to (make test-cluster).
func TestAClusterUnderFaults(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "chaos")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/larder-cache/larder/internal/e2e/chaos").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "-larder", binary, "-out", t.TempDir(), "-seed", "11", "-faults", "3", "-clients", "8", "-only", "kill,pause,isolate,one-way,failover", "-brief")
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := string(out); strings.Contains(text, "NO NETWORK NAMESPACES") {
		t.Skip(text) // what needs none was done
	}
}
