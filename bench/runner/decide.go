package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// decideCmd measures how long POST /decide takes over the Unix socket.
type decideCmd struct {
	Rate   float64       `default:"5000" help:"Calls a second."`
	For    time.Duration `default:"10s" help:"Length of each run."`
	Conns  int           `default:"16" help:"Kept-alive connections; a call that finds none free waits, and the wait counts."`
	Peers  int           `default:"16"`
	Rounds int           `default:"3" help:"Rounds; each runs every kind of call once."`
	Seed   uint64        `default:"1" help:"Of the arrivals; each round takes the next."`
}

func (decideCmd) name() string           { return "decide" }
func (c decideCmd) limit() time.Duration { return time.Duration(5*c.Rounds)*c.For + time.Minute }

// call is one kind of question.
type call struct {
	name, body, socket string
	pid                int // of the engine; 0 = of no interest
	runs               []callRun
}

// callRun is one run of it. Latencies count from when a call was due; "sent" ones from when the client wrote it.
type callRun struct {
	Calls   int     `json:"calls"`
	PerS    float64 `json:"per_s"`
	Bytes   int     `json:"answer_bytes"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	P999    float64 `json:"p999_ms"`
	Max     float64 `json:"max_ms"`
	Over1   float64 `json:"share_over_1ms"`
	SentP99 float64 `json:"sent_p99_ms"`
	Engine  float64 `json:"engine_cpu_us"`
}

func (c *decideCmd) measure(b *bench) (*result, error) {
	peers := make([]string, c.Peers)
	for i := range peers {
		peers[i] = fmt.Sprintf("10.0.0.%d:8080", i+1)
	}
	eng, err := b.engine("engine", peers, "")
	if err != nil {
		return nil, err
	}
	t := &traffic{eng: eng, peers: peers, classes: 10, perS: 2000, seed: c.Seed}
	if err := t.run(b, 2*time.Second); err != nil { // tables with something in them
		return nil, err
	}
	// The floor is what the client, the kernel and the neighbours take by themselves: an answer as long, from a server that does nothing.
	floor := filepath.Join(b.dir, "floor.sock")
	stop, err := fixedServer(floor, 3200)
	if err != nil {
		return nil, err
	}
	defer stop()
	calls := []*call{
		{name: "by class", body: `{"pool":"api","class":"GET /c1/{n}"}`, socket: eng.socket, pid: eng.pid()},
		{name: "by method and path", body: `{"pool":"api","method":"GET","path":"/c1/123"}`, socket: eng.socket, pid: eng.pid()},
		{name: "with a pick", body: `{"pool":"api","class":"GET /c1/{n}","pick":true,"inflight":{"10.0.0.1:8080":3}}`, socket: eng.socket, pid: eng.pid()},
		{name: "floor", body: `{"pool":"api","class":"GET /c1/{n}"}`, socket: floor},
	}
	for round := range c.Rounds {
		for _, x := range calls {
			b.say("round %d of %d: %s", round+1, c.Rounds, x.name)
			if err := c.ask(b, x, c.Seed+uint64(round)); err != nil {
				return nil, fmt.Errorf("%s: %w", x.name, err)
			}
		}
	}
	return c.result(calls), nil
}

func (c *decideCmd) result(calls []*call) *result {
	r := &result{
		Setup: fmt.Sprintf("POST /decide over the Unix socket, %d peers, Poisson arrivals at %.0f/s for %v a run, %d kept-alive connections; %d rounds of all kinds. "+
			"Latency counts from when a call was due.", c.Peers, c.Rate, c.For, c.Conns, c.Rounds),
	}
	raw := map[string][]callRun{}
	tab := table{Title: "Latency in ms, median over the rounds (p99 with extremes)", Columns: []string{"call", "calls/s", "p50", "p99", "extremes", "p99.9", "max", "over 1 ms", "p99 from sending", "answer bytes", "engine CPU us"}}
	for _, x := range calls {
		raw[x.name] = x.runs
		med := func(f func(callRun) float64) spread {
			var v []float64
			for _, run := range x.runs {
				v = append(v, f(run))
			}
			return spreadOf(v)
		}
		p99 := med(func(r callRun) float64 { return r.P99 })
		cpu := "-"
		if x.pid > 0 {
			cpu = fmt.Sprintf("%.1f", med(func(r callRun) float64 { return r.Engine }).Median)
		}
		tab.Rows = append(tab.Rows, []string{
			x.name, fmt.Sprintf("%.0f", med(func(r callRun) float64 { return r.PerS }).Median), fmt.Sprintf("%.3f", med(func(r callRun) float64 { return r.P50 }).Median),
			fmt.Sprintf("%.3f", p99.Median), p99.extremes("%.3f"), fmt.Sprintf("%.3f", med(func(r callRun) float64 { return r.P999 }).Median),
			fmt.Sprintf("%.2f", med(func(r callRun) float64 { return r.Max }).Max), fmt.Sprintf("%.3f %%", 100*med(func(r callRun) float64 { return r.Over1 }).Median),
			fmt.Sprintf("%.3f", med(func(r callRun) float64 { return r.SentP99 }).Median), fmt.Sprint(x.runs[0].Bytes), cpu,
		})
	}
	r.Tables = []table{tab}
	for i := range c.Rounds {
		r.Seeds = append(r.Seeds, c.Seed+uint64(i))
	}
	p99 := func(x *call) float64 {
		var v []float64
		for _, run := range x.runs {
			v = append(v, run.P99)
		}
		return spreadOf(v).Median
	}
	r.Targets = []target{atMost("p99 of /decide by class, median of the rounds", 1, p99(calls[0]), "ms")}
	r.note("no call failed")
	r.note("the client shares the %d cores with the engine and wakes once a call; \"floor\" is the same client with a server that answers fixed bytes", runtime.NumCPU())
	r.Raw = raw
	return r
}

// ask sends one kind of call, open loop.
func (c *decideCmd) ask(b *bench, x *call, seed uint64) error {
	req := fmt.Appendf(nil, "POST /decide HTTP/1.1\r\nHost: engine\r\nWeir-Protocol: 1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(x.body), x.body)
	type one struct{ took, sent time.Duration }
	due := make(chan time.Time, int(1.5*c.Rate*c.For.Seconds())+1000) // never full: pace does not wait
	var run callRun
	var mu sync.Mutex // guards done, run.Bytes and firstErr
	var done []one
	var firstErr error
	var connections sync.WaitGroup
	for range c.Conns {
		conn, err := net.Dial("unix", x.socket)
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", x.socket, err)
		}
		connections.Go(func() {
			defer func() { _ = conn.Close() }()
			in := bufio.NewReaderSize(conn, 64<<10)
			var resp fasthttp.Response
			mine := make([]one, 0, 1<<14)
			size := 0
			var broken error
			for at := range due {
				sent := time.Now()
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				_, err := conn.Write(req)
				if err == nil {
					err = resp.Read(in)
				}
				if err == nil && resp.StatusCode() != fasthttp.StatusOK {
					err = fmt.Errorf("status %d: %s", resp.StatusCode(), resp.Body())
				}
				if err != nil {
					broken = err // the connection is of no more use; the others take its share
					break
				}
				size = len(resp.Body())
				mine = append(mine, one{time.Since(at), time.Since(sent)})
			}
			mu.Lock()
			defer mu.Unlock()
			done, run.Bytes = append(done, mine...), max(run.Bytes, size)
			firstErr = errors.Join(firstErr, broken)
		})
	}
	cpu := c.engineCPU(x)
	began := time.Now()
	c.pace(b, seed, due)
	close(due)
	connections.Wait()
	took := time.Since(began)
	if firstErr != nil {
		return firstErr
	}
	run.Engine = float64((c.engineCPU(x) - cpu).Microseconds()) / float64(len(done))
	latency, sent, over := make([]float64, len(done)), make([]float64, len(done)), 0
	for i, d := range done {
		latency[i], sent[i] = ms(d.took), ms(d.sent)
		if d.took > time.Millisecond {
			over++
		}
	}
	slices.Sort(latency)
	slices.Sort(sent)
	run.Calls, run.PerS = len(done), float64(len(done))/took.Seconds()
	run.P50, run.P99, run.P999, run.Max = rank(latency, 0.5), rank(latency, 0.99), rank(latency, 0.999), rank(latency, 1)
	run.SentP99, run.Over1 = rank(sent, 0.99), float64(over)/float64(len(done))
	x.runs = append(x.runs, run)
	return nil
}

func (c *decideCmd) engineCPU(x *call) time.Duration {
	if x.pid == 0 {
		return 0
	}
	user, system, _ := cpuOf(x.pid)
	return user + system
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// pace hands out due times until the run is over. It has a thread to itself that sleeps in the kernel: Go's own timers are late by up to
// a millisecond, which would drown what is measured.
func (c *decideCmd) pace(b *bench, seed uint64, due chan<- time.Time) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const prSetTimerSlack = 29
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
	rnd := rand.New(rand.NewPCG(seed, 0))
	start := time.Now()
	for at := time.Duration(0); at < c.For && b.ctx.Err() == nil; {
		at += time.Duration(rnd.ExpFloat64() / c.Rate * float64(time.Second))
		if wait := at - time.Since(start); wait > 0 {
			ts := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&ts, nil)
		}
		due <- start.Add(at)
	}
}

// fixedServer answers every request with so many bytes.
func fixedServer(socket string, size int) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	body := []byte(strings.Repeat("x", size))
	s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.Response.SetBodyRaw(body) }}
	done := make(chan struct{})
	go func() {
		_ = s.Serve(l)
		close(done)
	}()
	return func() {
		_ = s.Shutdown()
		<-done
	}, nil
}
