package api

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/serve"
)

func shutDown(t *testing.T, s *Server, limit time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

// Case 25 of the field reports: stopping with idle keep-alives.
func TestShutdownAnswersLongPollsClosesIdleConnectionsAndRemovesTheFile(t *testing.T) {
	r := start(t, twoPools)
	idle := r.client()
	do(t, idle, "GET", "http://weir/healthz", "")
	silent, err := net.Dial("unix", r.path) // connected and never sent a byte
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	half, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write([]byte("POST /decide HTTP/1.1\r\nHost: x\r\nContent-Le")); err != nil {
		t.Fatal(err)
	}
	polled := make(chan *answer, 1)
	go func() { polled <- r.ask("GET", "/watch?since=99999999&epoch="+r.eng.State().Epoch, "") }()
	within(t, 5*time.Second, "the poll waits", func() bool { return r.eng.Watchers().Count() == 1 })

	if took := shutDown(t, r.socket, 500*time.Millisecond); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	select {
	case a := <-polled:
		if a.status != 204 {
			t.Errorf("the poll got %d", a.status)
		}
	case <-time.After(5 * time.Second):
		t.Error("the poll was not answered")
	}
	for name, nc := range map[string]net.Conn{"silent": silent, "half a request": half} {
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, nc); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("the connection with %s is not closed: %v", name, err)
		}
	}
	if _, err := os.Lstat(r.path); !os.IsNotExist(err) {
		t.Errorf("the socket file is still there: %v", err)
	}
	if _, err := net.Dial("unix", r.path); err == nil {
		t.Error("it still accepts")
	}
}

func TestShutdownLeavesASocketThatIsNotOurs(t *testing.T) {
	r := start(t, twoPools)
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	shutDown(t, r.socket, 300*time.Millisecond)
	if _, err := os.Lstat(r.path); err != nil {
		t.Errorf("another engine's socket was removed: %v", err)
	}
}

func TestASocketFileThatSomebodyRemovesIsMadeAnew(t *testing.T) {
	r := start(t, twoPools)
	kept := r.client()
	do(t, kept, "GET", "http://weir/healthz", "")
	for range 2 {
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "the file is there again", func() bool {
			info, err := os.Lstat(r.path)
			return err == nil && info.Mode().Perm() == 0o660
		})
		if a := r.ask("GET", "/healthz", ""); a.status != 200 {
			t.Errorf("by the new file: %d", a.status)
		}
		if a := do(t, kept, "GET", "http://weir/healthz", ""); a.status != 200 {
			t.Errorf("on a connection from before: %d", a.status)
		}
	}
	if err := os.RemoveAll(filepath.Dir(r.path)); err != nil { // with its folder
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the file is there again", func() bool { _, err := os.Lstat(r.path); return err == nil })
	within(t, 10*time.Second, "each time is told", func() bool { return strings.Count(r.logged(), "made anew") == 3 })
	shutDown(t, r.socket, 300*time.Millisecond)
	if _, err := os.Lstat(r.path); !os.IsNotExist(err) {
		t.Errorf("the new file is left behind: %v", err)
	}
}

// Case 25: a socket file left by SIGKILL.
func TestAStaleSocketFileIsReplacedAndALiveOneRefused(t *testing.T) {
	r := start(t, twoPools)
	if _, err := NewSocket(r.eng, config.Socket{Path: r.path, Mode: 0o660}); err == nil || !strings.Contains(err.Error(), "another engine answers on "+r.path) {
		t.Errorf("a second engine on the same socket: %v", err)
	}
	if a := r.ask("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("the first engine was disturbed: %d", a.status)
	}
	stale := filepath.Join(t.TempDir(), "engine.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close() // as after SIGKILL: the file stays, nobody listens
	s, err := NewSocket(r.eng, config.Socket{Path: stale, Mode: 0o600})
	if err != nil {
		t.Fatalf("with a stale file: %v", err)
	}
	shutDown(t, s, 300*time.Millisecond)
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSocket(r.eng, config.Socket{Path: plain, Mode: 0o600}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("on a plain file: %v", err)
	}
	if text, _ := os.ReadFile(plain); string(text) != "precious" {
		t.Error("the file was touched")
	}
}

func TestTheSocketHasItsModeAndGroupAndItsFolderIsMade(t *testing.T) {
	r := start(t, twoPools)
	path := filepath.Join(t.TempDir(), "a", "b", "engine.sock")
	conf := config.Socket{Path: path, Mode: 0o620}
	if os.Getuid() == 0 {
		conf.Group = "65534"
	}
	s, err := NewSocket(r.eng, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer shutDown(t, s, 300*time.Millisecond)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("%v %v", info, err)
	}
	if st := info.Sys().(*syscall.Stat_t); conf.Group != "" && st.Gid != 65534 {
		t.Errorf("group %d", st.Gid)
	}
	if _, err := NewSocket(r.eng, config.Socket{Path: path + "2", Group: "no-such-group"}); err == nil || !strings.Contains(err.Error(), `no group "no-such-group"`) {
		t.Errorf("unknown group: %v", err)
	}
}

// The umask was set to nothing for that moment: it is the whole process's.
func TestMakingTheSocketTakesNoPermissionsFromOtherFiles(t *testing.T) {
	dir := t.TempDir()
	made, stop := make(chan int), make(chan struct{})
	go func() {
		n := 0
		defer func() { made <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.Create(filepath.Join(dir, "other"))
			if err != nil {
				t.Error(err)
				return
			}
			if info, err := f.Stat(); err != nil || info.Mode().Perm() == 0 {
				t.Errorf("a file made meanwhile: %v %v", info.Mode(), err)
				return
			}
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	for range 300 {
		ln, err := bindUnix(filepath.Join(dir, "engine.sock"))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(filepath.Join(dir, "engine.sock")); err != nil || info.Mode().Perm() != 0 {
			t.Fatalf("before it has its mode and group: %v %v", info.Mode(), err)
		}
		_ = ln.Close()
		_ = os.Remove(filepath.Join(dir, "engine.sock"))
	}
	close(stop)
	if n := <-made; n < 10 {
		t.Errorf("only %d other files were made", n)
	}
}

func TestAHandlerThatPanicsAnswers500AndTheNextRequestIsServed(t *testing.T) {
	r := start(t, twoPools)
	h := newHandler(r.eng, "test", 1024)
	h.handle("/boom", map[string]func(*call){"GET": func(*call) { panic("boom") }})
	h.handle("/fine", map[string]func(*call){"GET": func(c *call) { c.accepted(1) }})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(ln, h, make(chan struct{}), nil)
	s.start()
	defer shutDown(t, s, 300*time.Millisecond)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	in := bufio.NewReader(nc)
	for _, c := range []struct{ path, want string }{{"/boom", "HTTP/1.1 500"}, {"/fine", "HTTP/1.1 200"}} {
		if _, err := nc.Write([]byte("GET " + c.path + " HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, c.want) {
			t.Errorf("%s: %q %v", c.path, line, err)
		}
		for line != "\r\n" && err == nil {
			line, err = in.ReadString('\n')
		}
		if c.path == "/boom" {
			if b, _ := in.ReadString('}'); !strings.Contains(b, `"error"`) {
				t.Errorf("body %q", b)
			}
		}
	}
	if !strings.Contains(r.logged(), "a request handler panicked") {
		t.Error("the panic is not in the log")
	}
}

// short is a listener of a process that has no file descriptors left for a while.
type short struct {
	net.Listener
	tries atomic.Int32
}

func (s *short) Accept() (net.Conn, error) {
	if s.tries.Add(1) <= 3 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func TestAListenerOutlastsAWantOfFileDescriptors(t *testing.T) {
	r := start(t, twoPools)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(&short{Listener: ln}, adminHandler(r.eng, r.token), make(chan struct{}), nil)
	s.start()
	defer shutDown(t, s, 300*time.Millisecond)
	web := &http.Client{Timeout: 5 * time.Second}
	if a := do(t, web, "GET", "http://"+ln.Addr().String()+"/api/health", ""); a.status != 200 {
		t.Errorf("%d: %s", a.status, a.body)
	}
	select {
	case err := <-s.Failed():
		t.Errorf("the listener ended: %v", err)
	default:
	}
	if n := strings.Count(r.logged(), "too many open files"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

func TestTheHeaderCarriesTheEnginesProtocol(t *testing.T) {
	if protocolVersion != string(rune('0'+serve.Protocol)) {
		t.Errorf("%s and %d", protocolVersion, serve.Protocol)
	}
}
