package api

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An engine that stood still finds the same batch several times: each time NGINX waited in vain it hung up and sent it again.
func TestABatchThatWasSentAgainDuringAStandstillCountsOnce(t *testing.T) {
	r := start(t, twoPools)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	s := newServer(ln, socketHandler(r.eng, stop), stop, nil)
	send := func() *net.UnixConn {
		nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(request("/observe", readableType, `{"pool":"api","class":"*","peer":"10.0.0.1:80","kind":"refused","total_ms":1}`)); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	for range 8 {
		_ = send().Close()
	}
	last := send()
	defer last.Close()
	_ = last.CloseWrite() // it says that it sends no more, and waits
	s.start()             // before that nothing is accepted, as in an engine that stands still
	defer shutDown(t, s, 300*time.Millisecond)
	_ = last.SetDeadline(time.Now().Add(30 * time.Second))
	if line, err := bufio.NewReader(last).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Errorf("the last one was answered %q, %v", line, err)
	}
	within(t, 30*time.Second, "all are read", func() bool { return r.eng.Metrics().BadGone.Get()+r.eng.Metrics().Records.Get() >= 9 })
	if n := r.eng.Metrics().Records.Get(); n != 1 {
		t.Errorf("the outcome was counted %d times", n)
	}
}
