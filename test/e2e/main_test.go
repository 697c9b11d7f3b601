// Package e2e holds Weir to its promises on real NGINX, with the real engine and real backend processes. Each test is a sentence about what
// an operator or user can rely on; the case numbers are those of the public reports the tests were made from.
//
//	go test -parallel 3 ./test/e2e         all, three to five minutes
//	go test ./test/e2e -run TestCounts     some
//	WEIR_E2E_KEEP=1                        keep the folder with logs and configurations
//	WEIR_HEAVY=1                           field cases at their full length
//	WEIR_E2E_RACE=0                        an engine without the race detector, which builds and runs faster
package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/weirlb/weir/test/e2e/rig"
)

var programs *rig.Programs // built once by TestMain, read-only after

func TestMain(m *testing.M) {
	var err error
	if programs, err = rig.Build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	programs.Close()
	os.Exit(code)
}

// full is the time that a field case has where the heavy tests run (test/heavy/beside), and short in the plain run.
func full(length, short time.Duration) time.Duration {
	if os.Getenv("WEIR_HEAVY") != "" {
		return length
	}
	return short
}

// start sets up NGINX, the engine and backends for one test.
func start(t *testing.T, opt rig.Options) *rig.Rig {
	t.Helper()
	return rig.Start(t, programs, opt)
}
