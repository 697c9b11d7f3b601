package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

func sixteen() string {
	peers := make([]string, 16)
	for i := range peers {
		peers[i] = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	return `pools: [{name: api, peers: ["` + strings.Join(peers, `", "`) + `"]}]`
}

// line is one keep-alive connection to the socket.
type line struct {
	nc net.Conn
	in *bufio.Reader
}

func connect(b testing.TB, path string) *line {
	b.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	return &line{nc, bufio.NewReaderSize(nc, 64<<10)}
}

// ask sends a request and reads its answer with as little work as can be.
func (l *line) ask(b testing.TB, request []byte) {
	if _, err := l.nc.Write(request); err != nil {
		b.Fatal(err)
	}
	length := -1
	for {
		text, err := l.in.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(text) == 2 {
			break
		}
		if rest, ok := strings.CutPrefix(string(text), "Content-Length: "); ok {
			if _, err := fmt.Sscan(rest, &length); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := io.CopyN(io.Discard, l.in, int64(length)); err != nil {
		b.Fatal(err)
	}
}

func request(path, media, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: weir\r\nWeir-Protocol: 1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, media, len(body), body)
}

// BenchmarkDecideAt5000PerSecond asks for the table of 16 peers 5,000 times a second over one connection, while outcomes come
// in and tables are published, and reports how long an answer takes from the moment it was due.
func BenchmarkDecideAt5000PerSecond(b *testing.B) {
	r := start(b, sixteen())
	stop := make(chan struct{})
	learned := make(chan struct{})
	go func() {
		defer close(learned)
		l := connect(b, r.path)
		batch := &observe.Batch{Instance: "web1"}
		for i := range 512 {
			rec := observe.Record{Attempt: 1, Propensity: 1, HeaderMS: 4, TotalMS: float32(3 + i%5), PredictedMS: 5, Load: observe.None}
			if err := batch.Add("api", fmt.Sprintf("GET /c%d", i%20), fmt.Sprintf("10.0.0.%d:80", 1+i%16), rec); err != nil {
				b.Error(err)
			}
		}
		body, err := batch.AppendCompact(nil)
		if err != nil {
			b.Error(err)
		}
		send := request("/observe", compactType, string(body))
		tick := time.NewTicker(50 * time.Millisecond) // 10,000 records/s
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				l.ask(b, send)
			}
		}
	}()
	l := connect(b, r.path)
	ask := request("/decide", "application/json", `{"pool":"api","class":"GET /c7"}`)
	l.ask(b, ask)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const gap = time.Second / 5000
	var took []time.Duration
	due := time.Now()
	for b.Loop() {
		due = due.Add(gap)
		if rest := time.Until(due); rest > 0 { // the kernel's sleep is nearer to the mark than the Go timer's
			_ = syscall.Nanosleep(&syscall.Timespec{Nsec: rest.Nanoseconds()}, nil)
		}
		l.ask(b, ask)
		took = append(took, time.Since(due))
	}
	close(stop)
	<-learned
	slices.Sort(took)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		b.ReportMetric(float64(took[int(q*float64(len(took)-1))].Microseconds()), fmt.Sprintf("p%g-us", 100*q))
	}
}

func BenchmarkDecideHandler(b *testing.B) {
	_, h := bare(b)
	ctx := post(h, "/decide", "application/json", []byte(`{"pool":"api","class":"GET /users/{n}"}`))
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		h.serve(ctx)
	}
}

func BenchmarkObserveOverTheSocket512(b *testing.B) {
	r := start(b, sixteen())
	batch := &observe.Batch{Instance: "web1"}
	for i := range 512 {
		rec := observe.Record{Attempt: 1, Propensity: 1, HeaderMS: 4, TotalMS: 5, PredictedMS: 5, Load: observe.None}
		if err := batch.Add("api", fmt.Sprintf("GET /c%d", i%50), fmt.Sprintf("10.0.0.%d:80", 1+i%16), rec); err != nil {
			b.Fatal(err)
		}
	}
	body, err := batch.AppendCompact(nil)
	if err != nil {
		b.Fatal(err)
	}
	send := request("/observe", compactType, string(body))
	l := connect(b, r.path)
	b.ReportAllocs()
	for b.Loop() {
		l.ask(b, send)
	}
}
