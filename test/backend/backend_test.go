package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// start runs a backend in this process until the test ends.
func start(t *testing.T, opt Options) (*Backend, Control) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	if opt.Listen == "" {
		opt.Listen = "127.0.0.1:0"
	}
	b, err := Start(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	control := httptest.NewServer(b.ControlHandler())
	t.Cleanup(func() {
		stop()
		control.Close()
		b.Wait()
	})
	return b, Control{URL: control.URL}
}

func patch(t *testing.T, c Control, text string) {
	t.Helper()
	if err := c.Patch(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestRequestsAreServedFirstComeFirstServedByTheWorkers(t *testing.T) {
	q := newQueue()
	q.set(2, 1)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			q.serve(t.Context(), 100)
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		})
		for _, held := q.load(); held < i+1; _, held = q.load() {
			time.Sleep(time.Millisecond)
		}
	}
	begin := time.Now()
	all.Wait()
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("6 requests of 100 ms on 2 workers took %v, want about 300 ms", took)
	}
	for i, n := range order {
		if n/2 != i/2 { // the two served side by side may end in either order
			t.Fatalf("finished in the order %v", order)
		}
	}
}

func TestAChangeOfSpeedAppliesToWhatIsBeingServed(t *testing.T) {
	q := newQueue()
	q.set(1, 0)
	done := make(chan time.Duration)
	go func() {
		waited, served := q.serve(t.Context(), 50)
		done <- waited + served
	}()
	for { // the standstill counts from here: a goroutine may begin late
		if _, held := q.load(); held == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-done:
		t.Fatal("work was done at speed 0")
	case <-time.After(150 * time.Millisecond):
	}
	q.set(1, 1)
	if served := <-done; served < 200*time.Millisecond {
		t.Errorf("served in %v, want the 150 ms standstill and 50 ms of work", served)
	}
}

func TestDrawnServiceTimesHaveTheMeanAskedFor(t *testing.T) {
	for _, d := range []Dist{
		{MeanMS: 10}, {MeanMS: 10, Dist: "fixed"}, {MeanMS: 10, Dist: "exp"}, {MeanMS: 10, Dist: "lognormal", CV: 1}, {MeanMS: 10, Dist: "pareto", Shape: 3},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		sum := 0.0
		for range 200_000 {
			sum += d.Draw(r)
		}
		if mean := sum / 200_000; math.Abs(mean-10) > 0.3 {
			t.Errorf("%+v has mean %.3f", d, mean)
		}
	}
}

func TestSettingsThatCannotBeMeantAreRefusedWithTheirKey(t *testing.T) {
	for text, want := range map[string]string{
		`{"slot":1}`:                                  "slot",
		`{"slots":-1}`:                                "slots",
		`{"speed":-1}`:                                "speed",
		`{"hang":2}`:                                  "hang",
		`{"fail":{"status":50,"share":1}}`:            "fail.status",
		`{"fail":{"status":500,"share":3}}`:           "fail.share",
		`{"default":{"mean_ms":1,"dist":"gauss"}}`:    "default.dist",
		`{"classes":{"a":{"dist":"pareto"}}}`:         "classes.a.shape",
		`{"refuse":true,"blackhole":true}`:            "refuse",
		`{"reports":"xml"}`:                           "reports",
		`{"health":99}`:                               "health",
		`{"affinity":{"a":-1}}`:                       "affinity.a",
		`{"classes":{"a/b":{"mean_ms":1}},"slots":1}`: "classes",
	} {
		if _, err := DefaultSettings().Merge([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %s", text, err, want)
		}
	}
}

func TestAPatchKeepsWhatItDoesNotNameAndNullEndsAFault(t *testing.T) {
	b, c := start(t, Options{Settings: DefaultSettings()})
	patch(t, c, `{"classes":{"light":{"mean_ms":5}},"fail":{"status":500,"share":1}}`)
	patch(t, c, `{"speed":0.5}`)
	patch(t, c, `{"fail":null}`)
	s := b.settings
	if s.Speed != 0.5 || s.Slots != 4 || s.Classes["light"].MeanMS != 5 || s.Fail != nil {
		t.Errorf("settings %+v", s)
	}
}

func TestTheAnswerTellsWhatTheBackendSaw(t *testing.T) {
	b, c := start(t, Options{Name: "a", Settings: DefaultSettings()})
	body := strings.Repeat("x", 100_000)
	sum := sha256.Sum256([]byte(body))
	req, _ := http.NewRequest(http.MethodPost, "http://"+b.Addr()+"/echo/1?q=2", strings.NewReader(body))
	req.Header.Set("X-Request-Id", "once")
	req.Header.Set("X-Mark", "m")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	if a.Peer != "a" || a.Method != "POST" || a.URI != "/echo/1?q=2" || a.BodyBytes != 100_000 || a.BodySHA256 != hex.EncodeToString(sum[:]) || a.Header.Get("X-Mark") != "m" {
		t.Errorf("answer %+v", a)
	}
	if n, err := c.Seen(t.Context(), "once"); n != 1 || err != nil {
		t.Errorf("seen %d times, %v", n, err)
	}
	if n, err := c.Seen(t.Context(), "never"); n != 0 || err != nil {
		t.Errorf("an id that never came was seen %d times, %v", n, err)
	}
}

func TestTheLedgerForgetsTheOldestIDsFirst(t *testing.T) {
	l := newLedger()
	for i := range ledgerSize + 3 {
		l.note(fmt.Sprint(i))
	}
	if len(l.count) != ledgerSize || l.seen("2") != 0 || l.seen("3") != 1 {
		t.Errorf("%d ids kept, 2 seen %d times, 3 seen %d times", len(l.count), l.seen("2"), l.seen("3"))
	}
}

func TestARefusingPortIsClosedAndOpensAgainAtTheSameAddress(t *testing.T) {
	s := DefaultSettings()
	s.Default = Dist{MeanMS: 300}
	b, c := start(t, Options{Settings: s})
	addr, web := b.Addr(), client(t)
	held := make(chan error)
	go func() {
		resp, err := web.Get("http://" + addr + "/")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		held <- err
	}()
	for b.Stats().InFlight == 0 {
		time.Sleep(time.Millisecond)
	}
	patch(t, c, `{"refuse":true}`)
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want refused", err)
	}
	if err := <-held; err != nil {
		t.Errorf("the request being served was lost: %v", err)
	}
	patch(t, c, `{"refuse":false}`)
	if _, err := client(t).Get("http://" + addr + "/healthz"); err != nil || b.Addr() != addr {
		t.Errorf("after opening again at %s (was %s): %v", b.Addr(), addr, err)
	}
}

func TestABlackHoleNeitherAcceptsNorRefuses(t *testing.T) {
	b, c := start(t, Options{Settings: DefaultSettings()})
	patch(t, c, `{"blackhole":true}`)
	for range 3 {
		_, err := net.DialTimeout("tcp", b.Addr(), 200*time.Millisecond)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("dial: %v, want a time-out", err)
		}
	}
	patch(t, c, `{"blackhole":false}`)
	if _, err := client(t).Get("http://" + b.Addr() + "/healthz"); err != nil {
		t.Errorf("after the black hole: %v", err)
	}
}

func TestAPortMayOpenLate(t *testing.T) {
	// Below the ports of outgoing connections and of the end-to-end tests.
	port := 10000
	for ; port < 11000; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			break
		}
	}
	b, _ := start(t, Options{Listen: fmt.Sprintf("127.0.0.1:%d", port), OpenAfter: 300 * time.Millisecond, Settings: DefaultSettings()})
	if _, err := net.Dial("tcp", b.Addr()); err == nil {
		t.Error("the port was open at once")
	}
	for deadline := time.Now().Add(10 * time.Second); !b.Stats().Open; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the port never opened")
		}
	}
}

func TestFaultsLookAsTheyAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, settings string
		requests       int // on one connection; the last is looked at
		want           func(resp *http.Response, body []byte, err error) bool
	}{
		{"status", `{"fail":{"status":503,"share":1}}`, 1, func(r *http.Response, b []byte, err error) bool {
			return err == nil && r.StatusCode == 503 && bytes.Contains(b, []byte("scripted failure 503"))
		}},
		{"status of another method only", `{"fail":{"status":503,"share":1,"method":"POST"}}`, 1, func(r *http.Response, _ []byte, err error) bool {
			return err == nil && r.StatusCode == 200
		}},
		{"reset before the header", `{"reset":{"share":1,"after_bytes":-1}}`, 1, func(_ *http.Response, _ []byte, err error) bool {
			return errors.Is(err, syscall.ECONNRESET)
		}},
		{"reset inside the body", `{"reset":{"share":1,"after_bytes":1000}}`, 1, func(r *http.Response, b []byte, err error) bool {
			return r != nil && r.StatusCode == 200 && errors.Is(err, syscall.ECONNRESET) && len(b) <= 1000
		}},
		{"a reused connection is closed", `{"close_reused":true}`, 2, func(_ *http.Response, _ []byte, err error) bool {
			return err != nil && !errors.Is(err, syscall.ECONNREFUSED)
		}},
		{"no keep-alive", `{"no_keep_alive":true}`, 1, func(r *http.Response, _ []byte, err error) bool { return err == nil && r.Close }},
		{"load report", `{"reports":"orca"}`, 1, func(r *http.Response, _ []byte, err error) bool {
			return err == nil && strings.HasPrefix(r.Header.Get("endpoint-load-metrics"), "TEXT application_utilization=")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, control := start(t, Options{Settings: DefaultSettings()})
			patch(t, control, c.settings)
			web := client(t)
			var resp *http.Response
			var body []byte
			var err error
			for range c.requests {
				// POST, because Go's client repeats a GET by itself when a reused connection was closed
				req, _ := http.NewRequest(http.MethodPost, "http://"+b.Addr()+"/", http.NoBody)
				if strings.Contains(c.settings, `"method"`) {
					req.Method = http.MethodGet
				}
				if resp, err = web.Do(req); err == nil {
					body, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
			}
			if !c.want(resp, body, err) {
				t.Errorf("got %+v, %d bytes, error %v", resp, len(body), err)
			}
		})
	}
}

func TestAHangingRequestGetsNoAnswerAndIsReleasedWithItsClient(t *testing.T) {
	b, c := start(t, Options{Settings: DefaultSettings()})
	patch(t, c, `{"hang":1}`)
	web := client(t)
	web.Timeout = 200 * time.Millisecond
	if resp, err := web.Get("http://" + b.Addr() + "/"); err == nil {
		t.Errorf("answered %s", resp.Status)
	}
	for deadline := time.Now().Add(10 * time.Second); b.Stats().InFlight > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request is held after its client left")
		}
	}
	if s := b.Stats(); s.Aborted != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestAnIdleConnectionIsClosedAfterTheKeepAliveTime(t *testing.T) {
	b, _ := start(t, Options{KeepAlive: 100 * time.Millisecond, Settings: DefaultSettings()})
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET /status/204 HTTP/1.1\r\nHost: x\r\n\r\n")
	text, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 204")) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestServiceTimesFallFromColdToNormal(t *testing.T) {
	b := &Backend{opt: Options{ColdFactor: 5, Warm: 10 * time.Second}}
	for since, want := range map[time.Duration]float64{0: 5, 5 * time.Second: 3, 10 * time.Second: 1, time.Hour: 1} {
		if got := b.coldFactor(since); got != want {
			t.Errorf("factor after %v is %v, want %v", since, got, want)
		}
	}
}

func TestABrownoutComesGoesAndReturns(t *testing.T) {
	b, _ := start(t, Options{Brownout: Brownout{From: 50 * time.Millisecond, Every: 200 * time.Millisecond, For: 100 * time.Millisecond, Speed: 0.1}, Settings: DefaultSettings()})
	for _, want := range []float64{1, 0.1, 1, 0.1} {
		deadline := time.Now().Add(10 * time.Second)
		for {
			b.queue.mu.Lock()
			speed := b.queue.speed
			b.queue.mu.Unlock()
			if speed == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("speed %v, want %v", speed, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestStreamsStayOpenUntilTheirClientLeaves(t *testing.T) {
	b, _ := start(t, Options{Settings: DefaultSettings()})
	ws, _, err := websocket.Dial(t.Context(), "ws://"+b.Addr()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := ws.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Errorf("echo %q, %v", text, err)
	}
	resp, err := client(t).Get("http://" + b.Addr() + "/sse?n=0&every=10ms")
	if err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.Streams != 2 {
		t.Errorf("%d streams, want 2", s.Streams)
	}
	_ = resp.Body.Close()
	_ = ws.CloseNow()
	for deadline := time.Now().Add(10 * time.Second); b.Stats().Streams > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams after their clients left", b.Stats().Streams)
		}
	}
}

func TestMemoryFillsIsToldAndEndsTheProcessWhenFull(t *testing.T) {
	full := make(chan struct{})
	b, c := start(t, Options{Settings: DefaultSettings(), Full: func() { close(full) }})
	used := func() (x float64) {
		res, err := client(t).Get("http://" + b.Addr() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, _ := io.ReadAll(res.Body)
		_, rest, _ := strings.Cut(string(text), "\nbackend_memory_bytes ")
		if _, err := fmt.Sscan(rest, &x); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return x / memoryLimit
	}
	if x := used(); x != 0 {
		t.Errorf("at first %v is in use", x)
	}
	patch(t, c, `{"memory":{"from":0.5,"per_s":0.0001}}`)
	if x := used(); x < 0.5 || x > 0.6 {
		t.Errorf("half of it is in use, told is %v", x)
	}
	patch(t, c, `{"memory":{"from":0.5,"per_s":2}}`)
	select {
	case <-full:
	case <-time.After(10 * time.Second):
		t.Fatal("it was never full")
	}
	if x := used(); x != 1 {
		t.Errorf("full, told is %v", x)
	}
	patch(t, c, `{"memory":null}`)
	if x := used(); x != 0 {
		t.Errorf("emptied, told is %v", x)
	}
	if got := b.Stats().Requests; got != 0 {
		t.Errorf("reading /metrics counts as %d requests", got)
	}
}
